"""The push gateway: it takes notifications from other programs, stores them, and sends them."""
