"""What operators see: health, metrics, the status page and the log."""
