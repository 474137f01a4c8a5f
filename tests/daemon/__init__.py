"""Tests for the push gateway."""
