"""Programs a person runs; each has --help."""
