"""Reactors that are not installed: for programs that do not run on Twisted."""
