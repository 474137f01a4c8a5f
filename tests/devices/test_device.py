"""Tests for :mod:`txapns.devices.device`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txapns.devices import Capability, Device, Permission, Platform, Push, Settings, Stored

__all__ = ["DeviceTests"]


class DeviceTests(SynchronousTestCase):
    """A device and what it is like."""

    def test_default(self) -> None:
        """By default everything is allowed."""
        device = Device()
        self.assertTrue(all(map(device.can, Capability)))
        self.assertTrue(device.online)
        self.assertIs(device.settings.permission, Permission.AUTHORIZED)
        self.assertTrue(device.settings.alert_styles)
        nowhere = Settings(banners=False, lock_screen=False, notification_center=False)
        self.assertFalse(nowhere.alert_styles)

    def test_runs(self) -> None:
        """Versions of other systems are not compared with those of iOS."""
        device = Device(version=(17, 2))
        self.assertEqual([device.runs(17, 2), device.runs(17), device.runs(17, 3), device.runs(18)], [1, 1, 0, 0])
        self.assertFalse(Device(platform=Platform.MACOS, version=(26, 0)).runs(17))

    def test_secrets(self) -> None:
        """A device shows no token of what waits for it."""
        device = Device(stored=(Stored(Push({}, b"{}", "ab" * 32), 0, 1),))
        self.assertNotIn("ab" * 32, repr(device))
