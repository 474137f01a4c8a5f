"""How a server is reached and trusted. Private."""
