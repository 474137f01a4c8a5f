"""Tests for :mod:`txapns.remote`."""
