"""Tests for :mod:`txapns._reactors`."""
