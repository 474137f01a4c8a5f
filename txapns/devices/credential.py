"""What a push is sent with."""

from __future__ import annotations

import attrs

__all__ = ["Credential"]


@attrs.frozen
class Credential:
    """
    What the answer depends on of a credential that is valid.

    :ivar topics: what it is for; ``None`` for every topic. A certificate is for these topics and no others, a provider
        token also for those that continue one of them after a dot.
    :ivar is_certificate: whether it is a certificate.
    :ivar listed: whether a certificate lists its topics, so that each request must name one.
    """

    topics: tuple[str, ...] | None = None
    is_certificate: bool = False
    listed: bool = False

    def serves(self, topic: str) -> bool:
        """Whether it is for a topic."""
        if self.topics is None or topic in self.topics:
            return True
        return not self.is_certificate and any(topic.startswith(f"{each}.") for each in self.topics)

    @property
    def topic(self) -> str | None:
        """The topic of requests that name none; ``None`` if there is no such topic."""
        return self.topics[0] if self.is_certificate and not self.listed and self.topics else None
