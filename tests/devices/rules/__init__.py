"""Tests of :mod:`txapns.devices.rules`."""
