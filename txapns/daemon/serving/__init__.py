"""How the faces are served: connections, with bounds on what a caller can make them hold, read and wait."""

__all__: list[str] = []
