"""What the daemon keeps: notifications, their outcomes, dead tokens, apps and API keys."""
