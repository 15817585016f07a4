"""What a call costs, measured side by side: `python -m speed`, with this package's folder as the current one."""
