"""The clients that are measured, a program each."""
