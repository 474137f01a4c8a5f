"""Tests for :mod:`txapns.simulator.web`."""
