"""The ``txapns`` command."""
