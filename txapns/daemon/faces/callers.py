"""
Which apps a caller may send for, if it shows the credentials that it would show to Apple.

A *client certificate* is identified by its fingerprint: it is the app's own, or one of those listed as the app's
``callers``. No authority needs to have issued it, and it may have expired: TLS proves that its owner has the private
key, and the operator has said who that is. So a program that has always used its certificate with Apple needs no other.

A *provider token* is verified with the daemon's own signing key, if that has the same team and key identifier. It can
be an hour old, as with Apple. It is for all apps of this key, and is not sent on.

A *key* of the daemon can be part of an address, for callers that know nothing but that: ``/txapns_…/``.

The *topic* tells which of these apps is meant, without the suffix that some push types add. If two apps have the same
topic, one in Apple's sandbox and one not, the host name that the caller connected to decides.
"""

from __future__ import annotations

import re

import attrs

from txapns._credentials.bearer import BearerToken
from txapns._serving.http import Request
from txapns.credentials import Certificate, ProviderToken
from txapns.daemon.errors import RequestRefused
from txapns.daemon.interfaces import IApps
from txapns.daemon.values import App
from txapns.notification import PushType

__all__ = ["LEEWAY", "TOKEN_LIFE", "Callers", "Claim", "default_headers", "lacks_topic", "take_key"]

#: The greatest age of a provider token, in seconds.
TOKEN_LIFE = 3_600
#: How far the clock that signed it may be ahead of ours, in seconds.
LEEWAY = 300

_REMEMBERED = 1_000  # topics whose apps are remembered
_KEY_IN_PATH = re.compile(rb"/(txapns_[^/?]*)(.*)")
_SUFFIXES = tuple(sorted({each.suffix for each in PushType if each.suffix}, key=len, reverse=True))


@attrs.frozen
class Claim:
    """
    What a provider token proves.

    :ivar signer: the key that signed it, as the name of a caller.
    :ivar issued: when it was signed, in UNIX seconds.
    :ivar apps: the names of the apps it is for.
    """

    signer: str
    issued: float
    apps: frozenset[str]


@attrs.frozen
class _Index:
    """The apps of one revision, by the credentials of their callers."""

    revision: int
    apps: dict[str, App]
    certificates: dict[str, set[str]] = attrs.Factory(dict)
    tokens: dict[tuple[str, str], dict[ProviderToken, set[str]]] = attrs.Factory(dict)
    topics: dict[tuple[str | None, frozenset[str] | None, bool], list[str]] = attrs.Factory(dict)


class Callers:
    """Identifies callers by their credentials."""

    def __init__(self, apps: IApps) -> None:
        self._apps = apps
        self._known: _Index | None = None

    @property
    def revision(self) -> int:
        """Grows with every change of the apps; what was found about a caller is valid until then."""
        return int(self._apps.revision)

    def by_certificate(self, fingerprint: str) -> frozenset[str]:
        """Find the apps that the owner of a certificate may send for, by the certificate's fingerprint."""
        return frozenset(self._index().certificates.get(fingerprint, ()))

    def by_token(self, token: str) -> Claim | None:
        """Verify a provider token, but not its age; returns what it proves, or ``None`` if it is invalid."""
        shown = BearerToken.parse(token)
        if shown is None:
            return None
        for key, names in self._index().tokens.get((shown.team_id, shown.key_id), {}).items():
            if shown.is_signed_by(key.public_key):
                return Claim(f"key {shown.team_id}/{shown.key_id}", shown.issued_at, frozenset(names))
        return None

    def for_topic(self, topic: str | None, names: frozenset[str] | None, *, sandbox: bool) -> list[str]:
        """
        Find the app that a topic means.

        :param topic: the topic; ``None`` if the caller names none.
        :param names: the names of the apps that the caller may send for; ``None`` for all.
        :param sandbox: whether to prefer apps in Apple's sandbox.
        :returns: the names of the apps that may be meant: exactly one, if all is well.
        """
        index = self._index()
        found = index.topics.get((topic, names, sandbox))
        if found is None:
            found = _meant(index, topic, names, sandbox)
            if len(index.topics) >= _REMEMBERED:
                index.topics.clear()  # a caller invents topics
            index.topics[topic, names, sandbox] = found
        return found

    def get(self, name: str) -> App | None:
        """Find an app by its name; ``None`` if it does not exist, or cannot be used now."""
        return self._index().apps.get(name)

    def _index(self) -> _Index:
        if self._known is None or self._known.revision != self._apps.revision:
            self._known = self._indexed()
        return self._known

    def _indexed(self) -> _Index:
        index = _Index(int(self._apps.revision), {})
        for name in self._apps.names():
            try:
                app = self._apps.get(name)
            except RequestRefused:
                continue  # the intake refuses requests for it
            index.apps[name] = app
            for fingerprint in app.callers:
                index.certificates.setdefault(fingerprint, set()).add(name)
            for credential in app.credentials.values():
                if isinstance(credential, Certificate):
                    index.certificates.setdefault(credential.fingerprint, set()).add(name)
                else:
                    keys = index.tokens.setdefault((credential.team_id, credential.key_id), {})
                    keys.setdefault(credential, set()).add(name)
        return index


def _meant(index: _Index, topic: str | None, names: frozenset[str] | None, sandbox: bool) -> list[str]:
    allowed = sorted(index.apps if names is None else index.apps.keys() & names)
    if topic is None:
        return allowed
    found = _of_topic(topic, [index.apps[name] for name in allowed])
    if len(found) > 1:
        found = [app for app in found if app.sandbox is not None or _in_sandbox(app) == sandbox]
    return [app.name for app in found]


def _of_topic(topic: str, apps: list[App]) -> list[App]:
    """Find the apps of a topic: those with the topic, or with it minus its suffix, or else those without any topic."""
    plain = next((topic.removesuffix(suffix) for suffix in _SUFFIXES if topic.endswith(suffix)), topic)
    for wanted in (topic, plain):
        found = [app for app in apps if wanted in _topics(app)]
        if found:
            return found
    return [app for app in apps if not _topics(app)]


def _topics(app: App) -> tuple[str, ...]:
    if app.topic is not None:
        return (app.topic,)
    return tuple(app.credential.topics) if isinstance(app.credential, Certificate) else ()


def _in_sandbox(app: App) -> bool:
    return "sandbox" in app.gateway.host or "development" in app.gateway.host


def default_headers(app: App) -> dict[str, str]:
    """
    Give the header fields of a notification that arrived without any.

    :param app: the app. Its topic is not among them, since it is added to every notification without one.
    """
    return {} if app.push_type is None else {"apns-push-type": app.push_type}


def lacks_topic(app: App) -> bool:
    """Tell whether an app has no topic of its own, so that every notification must have one."""
    credential = app.credential
    return app.topic is None and not (isinstance(credential, Certificate) and not credential.needs_topic)


def take_key(request: Request) -> str:
    """
    Take the key that is the first part of a request's path out of it, so that nothing else sees it there.

    :returns: the key; empty if there is none.
    """
    match = _KEY_IN_PATH.fullmatch(request.path)
    if match is None:
        return ""
    request.uri = request.path = match[2] or b"/"
    return match[1].decode("latin-1")
