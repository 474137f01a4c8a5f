"""Tests for the push daemon."""
