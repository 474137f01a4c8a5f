"""The push daemon: it takes notifications from other programs, stores them, and sends them."""
