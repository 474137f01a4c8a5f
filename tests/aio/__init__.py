"""Tests for :mod:`txapns.aio`."""
