"""The daemon's own HTTP API."""
