"""
What becomes of a push: what Apple answers, and what the device does with it.

Everything here is a pure function of values. Nothing reads a clock, a file or a socket.
"""

from txapns.devices.findings import Finding, Grade, Severity
from txapns.devices.push import Push

__all__ = ["Finding", "Grade", "Push", "Severity"]
