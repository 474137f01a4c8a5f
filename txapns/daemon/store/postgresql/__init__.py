"""The store in PostgreSQL, which several nodes can share."""
