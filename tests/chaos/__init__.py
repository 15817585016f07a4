"""The campaign against the library's promises: `make chaos` runs it whole, the suite runs it small."""
