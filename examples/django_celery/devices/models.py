"""The devices of the users."""

from django.db import models


class Device(models.Model):
    """A device that registered for notifications."""

    token = models.CharField(max_length=200, unique=True)
    registered = models.DateTimeField(auto_now=True)
