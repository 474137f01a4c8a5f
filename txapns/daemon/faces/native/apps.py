"""
The apps, for programs that manage them.

::

    GET    /v1/apps                       list the apps, with what is known of their credentials
    PUT    /v1/apps/<app>                 add an app, or replace it
    DELETE /v1/apps/<app>                 remove an app
    POST   /v1/apps/<app>/credential      replace an app's credential, and nothing else
    POST   /v1/apps/<app>/sandbox/credential    the same for the sandbox side of an app with two sides
    POST   /v1/apps/<app>/pause           send nothing more for an app until it is resumed
    POST   /v1/apps/<app>/resume          send again

Apps in the configuration are changed there, and can only be paused and resumed here.

Every request needs a key that allows ``manage``. Where no keys are required, all are refused: without its app, a
notification that waits cannot be sent. When a change is answered, it is on the disk and in effect.

The bodies contain private keys and passphrases. They are never logged nor repeated in an answer; an error names the
field that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from twisted.internet.defer import Deferred

from txapns._network.trust import trust_pem
from txapns._serving.http import Answer, Request
from txapns._serving.operations import Operation, Schema
from txapns.credentials import Certificate, Credential
from txapns.daemon.apps import Apps
from txapns.daemon.config.sections import FINGERPRINT, AppLimitsSection
from txapns.daemon.errors import Malformed, NotAllowed, RequestRefused
from txapns.daemon.faces.native.json_api import encode, json_body, must_manage, parameters
from txapns.daemon.intake import MAX_HEADER
from txapns.daemon.loading import sandbox_side
from txapns.daemon.secrets.submitted import SubmittedCredential, master_key_failed, read_submitted
from txapns.daemon.slices import APPS, in_slices
from txapns.daemon.store.apps import AppSettings, SandboxSettings
from txapns.daemon.values import Caller, Environment
from txapns.errors import CredentialError, InvalidGateway
from txapns.gateway import Gateway

__all__ = ["EXTRAS", "OPERATIONS", "AppOperations"]

# In Python, "$" also matches before a final line feed.
_Visible = Annotated[str, Meta(pattern="^[!-~]+$(?!\\n)", max_length=MAX_HEADER)]
_Fingerprint = Annotated[str, Meta(pattern=f"^{FINGERPRINT.pattern}$(?!\\n)")]
# A float, because 10.0 is a whole number in JSON, too.
_Count = Annotated[float, Meta(ge=1, le=10**9, multiple_of=1)]


#: What the types of the structures cannot express.
EXTRAS: Mapping[type, Schema] = {
    SubmittedCredential: {
        "oneOf": [
            {"required": ["certificate"], "properties": {"key": False, "key_id": False, "team_id": False}},
            {"required": ["key", "key_id", "team_id"], "properties": {"certificate": False}},
        ]
    }
}


# Bodies of requests.


class _Limits(Struct, forbid_unknown_fields=True):
    """The limits of this app that differ from those of all apps."""

    queue: _Count | None = None
    tokens: _Count | None = None
    in_flight: _Count | None = None
    connections: _Count | None = None
    attempts: _Count | None = None
    rate: _Count | None = None


class _Sandbox(Struct, forbid_unknown_fields=True):
    """What differs on the sandbox side of an app with two sides."""

    credential: SubmittedCredential | None = None
    gateway: Annotated[str, Meta(description="sandbox or http2:host=NAME:port=N.")] = "sandbox"
    trust_root: Annotated[str, Meta(description="PEM of the authorities to trust there.")] | None = None


class _App(Struct, forbid_unknown_fields=True):
    """The settings of an app."""

    credential: SubmittedCredential
    environment: (
        Annotated[
            Literal["auto"],
            Meta(description="auto: it has a production and a sandbox side; gateway is that of production."),
        ]
        | None
    ) = None
    sandbox: _Sandbox | None = None
    gateway: Annotated[
        str, Meta(description="production, sandbox, http2:host=NAME:port=N or binary:host=NAME:port=N.")
    ] = "production"
    trust_root: (
        Annotated[str, Meta(description="PEM of the authorities to trust there; by default, the platform's.")] | None
    ) = None
    topic: Annotated[_Visible, Meta(description="The topic of notifications without one.")] | None = None
    push_type: Annotated[_Visible, Meta(description="The push type, where a face has none.")] | None = None
    callers: Annotated[
        list[_Fingerprint], Meta(description="SHA-256 of client certificates whose owners may send for it.")
    ] = []
    outcomes: Annotated[bool, Meta(description="Whether what becomes of its notifications is recorded.")] = False
    supersede: Annotated[
        bool, Meta(description="Whether a newer notification supersedes what waits with the same collapse id.")
    ] = True
    limits: _Limits = msgspec.field(default_factory=_Limits)


# Bodies of answers.


class _KnownSandbox(Struct, omit_defaults=True):
    """The sandbox side of an app."""

    gateway: Annotated[str, Meta(description="Where it sends.")]
    credential: Literal["certificate", "key"]
    fingerprint: Annotated[str, Meta(description="The SHA-256 of its credential.")]
    expires: Annotated[float, Meta(description="When its certificate expires, in UNIX seconds.")] | UnsetType = UNSET


class _Known(Struct, omit_defaults=True):
    """An app."""

    name: str
    source: Annotated[Literal["file", "database"], Meta(description="An app in the file is changed only there.")]
    gateway: Annotated[str, Meta(description="Where it sends.")] | UnsetType = UNSET
    topic: Annotated[str, Meta(description="The topic of notifications without one.")] | UnsetType = UNSET
    credential: Literal["certificate", "key"] | UnsetType = UNSET
    expires: Annotated[float, Meta(description="When its certificate expires, in UNIX seconds.")] | UnsetType = UNSET
    fingerprint: Annotated[str, Meta(description="The SHA-256 of its credential.")] | UnsetType = UNSET
    problem: Annotated[str, Meta(description="Why it, or its new credential, cannot be used.")] | UnsetType = UNSET
    paused_since: Annotated[float, Meta(description="Since when it is paused, in UNIX seconds.")] | UnsetType = UNSET
    paused_by: Annotated[str, Meta(description="Who paused it.")] | UnsetType = UNSET
    outcomes: Annotated[bool, Meta(description="Whether its outcomes are recorded.")] | UnsetType = UNSET
    environment: Annotated[Literal["auto"], Meta(description="That it has two sides.")] | UnsetType = UNSET
    sandbox: _KnownSandbox | UnsetType = UNSET


class _Apps(Struct):
    """The apps, by name."""

    apps: list[_Known]


_app = msgspec.json.Decoder(_App)
_rotation = msgspec.json.Decoder(SubmittedCredential)


class AppOperations:
    """
    The operations of the apps.

    :param apps: the apps; ``None`` if they cannot be changed here.
    """

    def __init__(self, apps: Apps | None) -> None:
        self._apps = apps

    def read(self, request: Request, caller: Caller) -> Deferred[Answer]:
        """List the apps."""
        return Deferred.fromCoroutine(self._list(self._checked(request, caller)))

    async def _list(self, apps: Apps) -> Answer:
        problems, found = apps.problems(), []
        async for names in in_slices(apps.clock, sorted({*apps.names(), *problems}), APPS):
            some = (_known(apps, name, problems.get(name, UNSET)) for name in names)
            # What was removed meanwhile has neither.
            found += [known for known in some if known.gateway or known.problem]
        return Answer(200, encode(_Apps(found)))

    def put(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """Add an app, or replace it."""
        apps = self._checked(request, caller)
        asked = json_body(_app, request)
        settings = _settings(asked)

        def read() -> tuple[Credential, Credential | None]:
            credential = read_submitted(
                asked.credential, apps.now(), "credential.", gateway=asked.gateway, topic=asked.topic
            )
            _check_gateway(settings, credential)
            return credential, _read_sandbox(asked, settings, credential, apps.now())

        def store(credentials: tuple[Credential, Credential | None]) -> Deferred[bool]:
            return apps.put(app, settings, *credentials, caller=caller.name)

        def put(replaced: bool) -> Answer:
            return Answer(200 if replaced else 201, _body(apps, app))

        return apps.read(read).addCallback(store).addCallbacks(put, master_key_failed)

    def rotate(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """Replace an app's credential."""
        return self._rotate(request, caller, app, Environment.PRODUCTION)

    def rotate_sandbox(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """Replace the credential of an app's sandbox side."""
        return self._rotate(request, caller, app, Environment.SANDBOX)

    def _rotate(self, request: Request, caller: Caller, app: str, environment: Environment) -> Deferred[Answer]:
        apps = self._checked(request, caller)
        asked = json_body(_rotation, request)
        return _answered(apps.rotate_submitted(app, asked, environment, caller=caller.name), apps, app)

    def remove(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """Remove an app."""
        removing = self._checked(request, caller).remove(app, caller=caller.name)
        return removing.addCallback(lambda _: Answer(204))

    def pause(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """Send nothing more for an app."""
        apps = self._checked(request, caller)
        return _answered(apps.pause(app, caller.name), apps, app)

    def resume(self, request: Request, caller: Caller, app: str) -> Deferred[Answer]:
        """Send for an app again."""
        apps = self._checked(request, caller)
        return _answered(apps.resume(app, caller.name), apps, app)

    def _checked(self, request: Request, caller: Caller) -> Apps:
        """Check the caller before anything of the body is read."""
        must_manage(caller)
        if self._apps is None:
            raise NotAllowed("apps can be managed only where keys are required")
        parameters(request)
        return self._apps


# Reading requests.


def _settings(asked: _App) -> AppSettings:
    limits = {name: int(value) for name, value in msgspec.structs.asdict(asked.limits).items() if value is not None}
    sandbox = asked.sandbox
    if sandbox is not None and asked.environment is None:
        raise Malformed('only an app with environment "auto" has a sandbox side beside the other', path="sandbox")
    trusted = None if sandbox is None else sandbox.trust_root
    return AppSettings(
        gateway=asked.gateway,
        environment=asked.environment,
        sandbox=SandboxSettings() if sandbox is None else SandboxSettings(gateway=sandbox.gateway, trust_root=trusted),
        trust_root=asked.trust_root,
        topic=asked.topic,
        push_type=asked.push_type,
        callers=tuple(asked.callers),
        outcomes=asked.outcomes,
        supersede=asked.supersede,
        limits=AppLimitsSection(**limits),
    )


def _check_gateway(settings: AppSettings, credential: Credential) -> None:
    """Refuse settings with which no connection can be made: later, only the log would show it."""
    path = "trust_root"
    try:
        if settings.trust_root is not None:
            trust_pem(settings.trust_root)
        path = "gateway"
        Gateway.parse(settings.gateway, trust_root=settings.trust_root).context(credential)
    except (InvalidGateway, CredentialError) as error:
        raise Malformed(str(error), path=path) from None


def _read_sandbox(asked: _App, settings: AppSettings, other: Credential, now: datetime) -> Credential | None:
    """Read the credential of the sandbox side, and refuse settings with which it cannot connect."""
    if asked.environment is None:
        return None
    own, path = None, "sandbox.credential."
    if asked.sandbox is not None and asked.sandbox.credential is not None:
        own = read_submitted(asked.sandbox.credential, now, path, gateway="sandbox", topic=asked.topic)
    path = "sandbox.trust_root"
    try:
        if settings.sandbox.trust_root is not None:
            trust_pem(settings.sandbox.trust_root)
        path = "gateway"
        production = Gateway.parse(settings.gateway)
        path = "sandbox.gateway" if production.protocol == "http2" else path
        sandbox_side(settings, production, own or other)
    except (InvalidGateway, CredentialError) as error:
        raise Malformed(str(error), path=path) from None
    return own


# Writing answers.


def _answered(changing: Deferred[Any], apps: Apps, name: str) -> Deferred[Answer]:
    """Answer with what is known of an app once it is changed."""
    return changing.addCallback(lambda _: Answer(200, _body(apps, name)))


def _body(apps: Apps, name: str) -> bytes:
    return encode(_known(apps, name, apps.problems().get(name, UNSET)))


def _known(apps: Apps, name: str, problem: str | UnsetType) -> _Known:
    try:
        app = apps.get(name)
    except RequestRefused:
        return _Known(name, apps.source(name), problem=problem)
    sandbox, pause = app.sandbox, app.pause
    return _Known(
        name,
        app.source,
        gateway=str(app.gateway),
        topic=app.topic or UNSET,
        problem=problem,
        paused_since=UNSET if pause is None else pause.since,
        paused_by=UNSET if pause is None else pause.caller,
        outcomes=app.outcomes or UNSET,
        environment=UNSET if sandbox is None else "auto",
        sandbox=UNSET if sandbox is None else _KnownSandbox(str(sandbox.gateway), **_shown(sandbox.credential)),
        **_shown(app.credential),
    )


def _shown(credential: Credential) -> dict[str, Any]:
    """Tell what is shown of a credential."""
    if isinstance(credential, Certificate):
        expires = credential.expires.timestamp()
        return {"credential": "certificate", "fingerprint": credential.fingerprint, "expires": expires}
    return {"credential": "key", "fingerprint": credential.fingerprint}


_CHANGE_ERRORS = (400, 401, 403, 404, 409, 413, 415, 503)
_MARK_ERRORS = (400, 401, 403, 404, 503)

#: What :class:`AppOperations` answers.
OPERATIONS = (
    Operation(
        "GET", "/v1/apps", AppOperations.read, "apps", "List the apps.", {200: ("All apps.", (_Apps,))}, (400, 401, 403)
    ),
    Operation(
        "POST",
        "/v1/apps/{app}/credential",
        AppOperations.rotate,
        "rotate",
        "Replace the credential of an app in the database.",
        {200: ("It is in use.", (_Known,))},
        _CHANGE_ERRORS,
        body=SubmittedCredential,
    ),
    Operation(
        "POST",
        "/v1/apps/{app}/sandbox/credential",
        AppOperations.rotate_sandbox,
        "rotate_sandbox",
        "Replace the credential of the sandbox side of an app in the database that has two sides.",
        {200: ("It is in use.", (_Known,))},
        _CHANGE_ERRORS,
        body=SubmittedCredential,
    ),
    Operation(
        "POST",
        "/v1/apps/{app}/pause",
        AppOperations.pause,
        "pause",
        "Send nothing more for an app, also after a restart. What is accepted meanwhile waits.",
        {200: ("It is paused.", (_Known,))},
        _MARK_ERRORS,
    ),
    Operation(
        "POST",
        "/v1/apps/{app}/resume",
        AppOperations.resume,
        "resume",
        "Send for an app again.",
        {200: ("It is not paused.", (_Known,))},
        _MARK_ERRORS,
    ),
    Operation(
        "PUT",
        "/v1/apps/{app}",
        AppOperations.put,
        "put_app",
        "Add an app to the database, or replace it.",
        {200: ("It is replaced.", (_Known,)), 201: ("It is added.", (_Known,))},
        _CHANGE_ERRORS,
        body=_App,
    ),
    Operation(
        "DELETE",
        "/v1/apps/{app}",
        AppOperations.remove,
        "remove_app",
        "Remove an app from the database.",
        {204: ("It is removed. Its notifications stay in the queue.", ())},
        (400, 401, 403, 404, 409, 503),
    ),
)
