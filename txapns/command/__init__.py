"""The ``txapns`` command: a module for each command, and what they share."""
