"""Notifications on their way from the store to Apple and back."""
