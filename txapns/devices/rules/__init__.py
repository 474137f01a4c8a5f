"""
Rules: what can be wrong with a push, as small functions of it and of the device.

Those for which Apple refuses a push are its servers' checks at the same time: the simulator answers with the first
that applies, and :func:`lint` finds all of them. Nothing here keeps a push from being sent. Apple is the judge, and a
new key or type of Apple's must not wait for a new rule.
"""

from txapns.devices.rules.registry import RULES, lint
from txapns.devices.rules.rule import KINDS, Place, Rule

__all__ = ["KINDS", "RULES", "Place", "Rule", "lint"]
