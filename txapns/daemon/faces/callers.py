"""
Who calls, and for which apps, where callers show what they would show to Apple.

A *client certificate* is known by its fingerprint: it is the app's own, or one of those listed as the app's
``callers``. No authority has to vouch for it, and whether it has expired does not matter: that its owner has the
private key is what TLS proves, and the operator said who that is. So a program that has long been using a certificate
with Apple needs no other.

A *provider token* is verified with the key that the daemon itself signs with, if that is for the same team and has the
same identifier. It may be an hour old, as with Apple. It is for all apps of this key, and goes nowhere from here.

Which of the apps that a caller may use is meant is told by the *topic*, without the suffix that some push types add.
Where one topic is that of two apps, one in Apple's sandbox and one not, the host name that the caller asked for tells.
"""

from __future__ import annotations

import attrs

from txapns._credentials.bearer import BearerToken
from txapns.credentials import Certificate, ProviderToken
from txapns.daemon.errors import RequestRefused
from txapns.daemon.interfaces import IApps
from txapns.daemon.values import App
from txapns.notification import PushType

__all__ = ["LEEWAY", "TOKEN_LIFE", "Callers", "Claim", "default_headers", "lacks_topic"]

#: How old a provider token may be, in seconds.
TOKEN_LIFE = 3_600
#: By how many seconds its clock may be ahead of ours.
LEEWAY = 300

_REMEMBERED = 1_000  # answers to the question which app a topic means
_SUFFIXES = tuple(sorted({each.suffix for each in PushType if each.suffix}, key=len, reverse=True))


@attrs.frozen
class Claim:
    """
    What a provider token proves.

    :ivar issued: when it was signed, in UNIX seconds.
    :ivar apps: the names of the apps it is for.
    """

    issued: float
    apps: frozenset[str]


@attrs.frozen
class _Index:
    """The apps of one revision, by what their callers show."""

    revision: int
    apps: dict[str, App]
    certificates: dict[str, set[str]] = attrs.Factory(dict)
    tokens: dict[tuple[str, str], dict[ProviderToken, set[str]]] = attrs.Factory(dict)
    topics: dict[tuple[str | None, frozenset[str] | None, bool], list[str]] = attrs.Factory(dict)


class Callers:
    """
    Knows callers by what they show.

    :param apps: the apps.
    """

    def __init__(self, apps: IApps) -> None:
        self._apps = apps
        self._known: _Index | None = None

    @property
    def revision(self) -> int:
        """Grows with every change of the apps; what was found out about a caller holds as long as it does not."""
        return int(self._apps.revision)

    def by_certificate(self, fingerprint: str) -> frozenset[str]:
        """
        Tell for which apps the owner of a certificate may send.

        :param fingerprint: the certificate's SHA-256 in hexadecimal, lower case.
        :returns: their names; none where nobody knows it.
        """
        return frozenset(self._index().certificates.get(fingerprint, ()))

    def by_token(self, token: str) -> Claim | None:
        """
        Verify a provider token. How old it is, is for the caller of this to judge.

        :param token: the JSON web token.
        :returns: what it proves; ``None`` for nothing.
        """
        shown = BearerToken.parse(token)
        if shown is None:
            return None
        for key, names in self._index().tokens.get((shown.team_id, shown.key_id), {}).items():
            if shown.is_signed_by(key.public_key):
                return Claim(shown.issued_at, frozenset(names))
        return None

    def for_topic(self, topic: str | None, names: frozenset[str] | None, *, sandbox: bool) -> list[str]:
        """
        Find the app that a topic means.

        :param topic: the topic; ``None`` where the caller names none.
        :param names: the names of the apps that the caller may use; ``None`` for all.
        :param sandbox: whether it is the sandbox that the caller wants, should there be a choice.
        :returns: the names of the apps that are meant: one, if all is well.
        """
        index = self._index()
        found = index.topics.get((topic, names, sandbox))
        if found is None:
            found = _meant(index, topic, names, sandbox)
            if len(index.topics) >= _REMEMBERED:
                index.topics.clear()  # somebody makes topics up
            index.topics[topic, names, sandbox] = found
        return found

    def get(self, name: str) -> App | None:
        """
        Find an app.

        :param name: its name.
        :returns: ``None`` where there is none, or it cannot be used now.
        """
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
                continue  # those who call for it are told by the intake
            index.apps[name] = app
            for fingerprint in app.callers:
                index.certificates.setdefault(fingerprint, set()).add(name)
            credential = app.credential
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
        found = [app for app in found if _in_sandbox(app) == sandbox]
    return [app.name for app in found]


def _of_topic(topic: str, apps: list[App]) -> list[App]:
    """Find the apps of a topic: those that name it, or else it without its suffix, or else those that name none."""
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
    Give the header fields of a notification that came by a way which knows none.

    :param app: the app. Its topic is not among them, since it goes with whatever names none.
    """
    return {} if app.push_type is None else {"apns-push-type": app.push_type}


def lacks_topic(app: App) -> bool:
    """
    Tell whether nothing says what the topic of an app is, so that each notification has to.

    :param app: the app.
    """
    credential = app.credential
    return app.topic is None and not (isinstance(credential, Certificate) and not credential.needs_topic)
