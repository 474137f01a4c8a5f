"""The devices, an application of Django."""
