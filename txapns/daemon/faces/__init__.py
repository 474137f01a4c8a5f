"""The faces of the push gateway: the protocols in which it takes notifications."""

__all__: list[str] = []
