"""
The part of the native face that is for programs that look after apps.

::

    GET    /v1/apps                       list them: no credential, but what is known of it
    PUT    /v1/apps/<app>                 add an app to the database, or replace the one there
    DELETE /v1/apps/<app>                 remove one
    POST   /v1/apps/<app>/credential      give one another credential, and leave the rest

All of it needs a key that may manage, and is refused where no keys are asked for, whoever can reach that: with an app
goes what is waiting for it. What is answered is on the disk, and the daemon already works by it.

The bodies have private keys and passphrases in them. They are neither logged nor repeated in an answer; what is wrong
with one is told by its name.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from txapns._network.trust import trust_pem
from txapns.credentials import Credential, ProviderToken
from txapns.daemon.apps import Apps, expiry
from txapns.daemon.config import FINGERPRINT, AppLimitsSection
from txapns.daemon.errors import ConfigurationError, Malformed, NotAllowed, RequestRefused, SecretError, Unavailable
from txapns.daemon.faces.native.json_api import (
    decoded,
    encode,
    is_json,
    json_body,
    must_manage,
    no_json,
    operation,
    parameters,
    refused,
    refused_later,
)
from txapns.daemon.intake import MAX_HEADER
from txapns.daemon.secrets.credentials import read_certificate
from txapns.daemon.secrets.opening import opened
from txapns.daemon.serving.http import Answer, Request
from txapns.daemon.store.apps import AppSettings
from txapns.daemon.values import Caller
from txapns.errors import CredentialError, InvalidGateway, WrongPassphrase
from txapns.gateway import Gateway

__all__ = ["BODIES", "ONE_CREDENTIAL", "Provisioning", "paths"]

_log = Logger()

# The most characters of a PEM or of PKCS#12 in base64; a certificate with its chain has a tenth of it.
_MAX_PEM = 65_536
_AGAIN = 60.0  # seconds in which an operator may have mended something

# In Python the end of a pattern may be before a last line feed.
_Visible = Annotated[str, Meta(pattern="^[!-~]+$(?!\\n)", max_length=MAX_HEADER)]
_Fingerprint = Annotated[str, Meta(pattern=f"^{FINGERPRINT.pattern}$(?!\\n)")]
# To JSON 10.0 is as whole a number as 10.
_Count = Annotated[float, Meta(ge=1, le=10**9, multiple_of=1)]


# What callers send.


class _Credential(Struct, forbid_unknown_fields=True):
    """A certificate with its private key, or a signing key."""

    certificate: (
        Annotated[str, Meta(description="PEM, or PKCS#12 in base64; with the private key.", max_length=_MAX_PEM)]
        | UnsetType
    ) = UNSET
    key: Annotated[str, Meta(description="The content of a .p8.", max_length=_MAX_PEM)] | UnsetType = UNSET
    key_id: Annotated[str, Meta(description="The signing key's identifier.")] | UnsetType = UNSET
    team_id: Annotated[str, Meta(description="The team's identifier.")] | UnsetType = UNSET
    passphrase: Annotated[str, Meta(description="Opens it, where it is encrypted.")] | UnsetType = UNSET

    def __repr__(self) -> str:
        return "<_Credential>"  # what shows its fields shows secrets


#: What the structure cannot say.
ONE_CREDENTIAL = {
    "oneOf": [
        {"required": ["certificate"], "properties": {"key": False, "key_id": False, "team_id": False}},
        {"required": ["key", "key_id", "team_id"], "properties": {"certificate": False}},
    ]
}


class _Limits(Struct, forbid_unknown_fields=True):
    """What of the limits of all apps is otherwise for this app."""

    queue: _Count | None = None
    tokens: _Count | None = None
    in_flight: _Count | None = None
    connections: _Count | None = None
    attempts: _Count | None = None


class _App(Struct, forbid_unknown_fields=True):
    """An app as it is to be."""

    credential: _Credential
    gateway: Annotated[
        str, Meta(description="production, sandbox, http2:host=NAME:port=N or binary:host=NAME:port=N.")
    ] = "production"
    trust_root: (
        Annotated[str, Meta(description="PEM of the authorities to trust there; else the platform's.")] | None
    ) = None
    topic: Annotated[_Visible, Meta(description="Of notifications that name none.")] | None = None
    push_type: Annotated[_Visible, Meta(description="Where the way in knows none.")] | None = None
    callers: Annotated[
        list[_Fingerprint], Meta(description="SHA-256 of client certificates whose owners may send for it.")
    ] = []
    limits: _Limits = msgspec.field(default_factory=_Limits)


# What they get.


class _Known(Struct, omit_defaults=True):
    """An app as the daemon knows it."""

    name: str
    source: Annotated[Literal["file", "database"], Meta(description="What is in the file is changed there only.")]
    gateway: Annotated[str, Meta(description="Where it sends.")] | UnsetType = UNSET
    topic: Annotated[str, Meta(description="Of notifications that name none.")] | UnsetType = UNSET
    credential: Literal["certificate", "key"] | UnsetType = UNSET
    expires: Annotated[float, Meta(description="When its certificate does, in UNIX seconds.")] | UnsetType = UNSET
    fingerprint: Annotated[str, Meta(description="The SHA-256 of its credential.")] | UnsetType = UNSET
    problem: Annotated[str, Meta(description="Why it, or its new credential, cannot be used.")] | UnsetType = UNSET


class _Apps(Struct):
    """The apps, by name."""

    apps: list[_Known]


#: What :func:`paths` speaks of.
BODIES = (_Apps, _Known, _App, _Credential)

_app = msgspec.json.Decoder(_App)
_rotation = msgspec.json.Decoder(_Credential)


class Provisioning:
    """
    Answers who looks after apps.

    :param apps: the apps; ``None`` where nobody may.
    """

    def __init__(self, apps: Apps | None) -> None:
        self._apps = apps

    def read(self, request: Request, caller: Caller) -> Answer:
        """
        List the apps.

        :param request: the request.
        :param caller: who asks.
        :raises RequestRefused: why not.
        """
        apps = self._checked(request, caller)
        names = {*apps.names(), *apps.problems()}
        return Answer(200, encode(_Apps([_known(apps, name) for name in sorted(names)])))

    def put(self, request: Request, caller: Caller, app: str) -> Answer | Deferred[Answer]:
        """
        Add an app, or replace it.

        :param request: the request.
        :param caller: who asks.
        :param app: the app's name.
        :raises RequestRefused: why not.
        """
        apps = self._checked(request, caller)
        if not is_json(request):
            return no_json()
        asked = decoded(_app, request.body)
        settings = _settings(asked)

        def read() -> Credential:
            credential = _credential(
                asked.credential, apps.now(), "credential.", gateway=asked.gateway, topic=asked.topic
            )
            _check_gateway(settings, credential)
            return credential

        def put(replaced: bool) -> Answer:
            _log.info("{caller} put the app {app}", caller=caller.name, app=app)
            return Answer(200 if replaced else 201, encode(_known(apps, app)))

        return apps.read(read).addCallback(partial(apps.put, app, settings)).addCallbacks(put, _refused)

    def rotate(self, request: Request, caller: Caller, app: str) -> Answer | Deferred[Answer]:
        """
        Give an app another credential.

        :param request: the request.
        :param caller: who asks.
        :param app: the app's name.
        :raises RequestRefused: why not.
        """
        apps = self._checked(request, caller)
        if not is_json(request):
            return no_json()
        asked = decoded(_rotation, request.body)

        def rotated(_: None) -> Answer:
            _log.info("{caller} gave the app {app} another credential", caller=caller.name, app=app)
            return Answer(200, encode(_known(apps, app)))

        reading = apps.read(lambda: _credential(asked, apps.now()))
        return reading.addCallback(partial(apps.rotate, app)).addCallbacks(rotated, _refused)

    def remove(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """
        Remove an app.

        :param request: the request.
        :param caller: who asks.
        :param app: the app's name.
        :raises RequestRefused: why not.
        """

        def removed(_: None) -> Answer:
            _log.info("{caller} removed the app {app}", caller=caller.name, app=app)
            return Answer(204)

        return self._checked(request, caller).remove(app).addCallbacks(removed, _refused)

    def _checked(self, request: Request, caller: Caller) -> Apps:
        """Refuse who may not, before anything of the body is looked at."""
        must_manage(caller)
        if self._apps is None:
            raise NotAllowed("apps can be looked after only where keys are asked for")
        parameters(request)
        return self._apps


# Reading requests.


def _settings(asked: _App) -> AppSettings:
    limits = {name: int(value) for name, value in msgspec.structs.asdict(asked.limits).items() if value is not None}
    return AppSettings(
        gateway=asked.gateway,
        trust_root=asked.trust_root,
        topic=asked.topic,
        push_type=asked.push_type,
        callers=tuple(asked.callers),
        limits=AppLimitsSection(**limits),
    )


def _credential(
    given: _Credential, now: datetime, where: str = "", *, gateway: str | None = None, topic: str | None = None
) -> Credential:
    """Read a credential, or say which part of it is wrong."""
    passphrase = None if given.passphrase is UNSET else given.passphrase.encode()
    identifiers = given.key_id, given.team_id
    field = "certificate" if given.key is UNSET else "key"
    try:
        if given.certificate is not UNSET and given.key is UNSET and identifiers == (UNSET, UNSET):
            data = opened(given.certificate.encode(), passphrase)
            return read_certificate(data, passphrase, now, gateway=gateway, topic=topic)
        if given.certificate is UNSET and given.key is not UNSET and given.key_id and given.team_id:
            data = opened(given.key.encode(), passphrase)
            return ProviderToken.from_p8(data, given.key_id, given.team_id, passphrase=passphrase)
    except WrongPassphrase as error:
        raise Malformed(str(error), path=f"{where}passphrase") from None
    except CredentialError as error:
        raise Malformed(str(error), path=where + field) from None
    except Exception:
        # A stranger's file may bring out what no reader of credentials was ready for.
        _log.failure("a credential that a caller sent could not be read")
        raise Malformed("it cannot be read", path=where + field) from None
    raise Malformed("there has to be either a certificate, or a key with key_id and team_id", path=where.rstrip("."))


def _check_gateway(settings: AppSettings, credential: Credential) -> None:
    """Refuse what no connection could ever be made with; later on only the log would say so."""
    path = "trust_root"
    try:
        if settings.trust_root is not None:
            trust_pem(settings.trust_root)
        path = "gateway"
        Gateway.parse(settings.gateway, trust_root=settings.trust_root).context(credential)
    except (InvalidGateway, CredentialError) as error:
        raise Malformed(str(error), path=path) from None


# Writing answers.


def _known(apps: Apps, name: str) -> _Known:
    problem = apps.problems().get(name, UNSET)
    try:
        app = apps.get(name)
    except RequestRefused:
        return _Known(name, apps.source(name), problem=problem)
    expires = expiry(app)
    return _Known(
        name,
        app.source,
        str(app.gateway),
        app.topic or UNSET,
        "key" if expires is None else "certificate",
        UNSET if expires is None else expires.timestamp(),
        app.credential.fingerprint,
        problem,
    )


def _refused(reason: Failure) -> Answer:
    """Say what is for the operator, who is the caller here."""
    if reason.check(ConfigurationError, SecretError):
        return refused(Unavailable(f"the master key cannot be used: {reason.getErrorMessage()}", _AGAIN))
    return refused_later(reason)


def paths(app: dict[str, object]) -> dict[str, object]:
    """
    Describe it.

    :param app: the description of the parameter that names the app.
    :returns: the paths for the OpenAPI document.
    """
    errors = (400, 401, 403, 404, 409, 413, 415, 503)
    remove = operation("remove_app", "Remove an app from the database.", {}, (400, 401, 403, 404, 409, 503))
    remove["responses"]["204"] = {"description": "It is gone. What waits for it stays in the queue."}  # type: ignore[index]
    return {
        "/v1/apps": {
            "get": operation("apps", "List the apps.", {200: ("All.", "Apps")}, (400, 401, 403)),
        },
        "/v1/apps/{app}/credential": {
            "parameters": [app],
            "post": operation(
                "rotate",
                "Give an app in the database another credential.",
                {200: ("It is in use.", "Known")},
                errors,
                requestBody={"required": True, **json_body("Credential")},
            ),
        },
        "/v1/apps/{app}": {
            "parameters": [app],
            "put": operation(
                "put_app",
                "Add an app to the database, or replace the one there.",
                {200: ("It is replaced.", "Known"), 201: ("It is added.", "Known")},
                errors,
                requestBody={"required": True, **json_body("App")},
            ),
            "delete": remove,
        },
    }
