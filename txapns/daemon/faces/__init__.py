"""The faces of the daemon: the protocols in which it accepts notifications."""
