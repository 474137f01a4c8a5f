"""The master key, and credentials encrypted with it."""
