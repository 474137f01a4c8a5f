"""
Rules: what can be wrong with a push, as small functions of it and of the device.

Nothing here refuses a push. Apple is the judge, and a new key or type of Apple's must not wait for a new rule.
"""

from txapns.devices.rules.registry import RULES, lint
from txapns.devices.rules.rule import KINDS, Place, Rule

__all__ = ["KINDS", "RULES", "Place", "Rule", "lint"]
