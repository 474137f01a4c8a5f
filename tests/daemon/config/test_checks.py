"""Tests for :mod:`txapns.daemon.config.checks`: values that do not go together."""

from __future__ import annotations

import socket

from tests.daemon.config.reading import COUNT, ENDPOINT, FaultsCase, read

__all__ = ["ChecksTests"]

NO_TLS = "allowed is interface=127.0.0.1, a tls table, or allow_without_tls = true"
NO_KEYS = "allowed is keys = true, a loopback address, or allow_without_keys = true"
USERS = "and every user of this machine can reach"
NO_MODE = "allowed is keys = true, mode=660, or allow_without_keys = true"
NO_APP_IDS = (
    "intake.matrix.app_ids: found nothing; allowed is at least one table such as "
    '[intake.matrix.app_ids."com.example.app"]'
)
NO_CERTIFICATE = "allowed is a loopback address, or allow_without_keys = true"
GATEWAY = "production, sandbox, http2:host=NAME:port=N or binary:host=NAME:port=N"
REACHABLE = "which other machines can reach without TLS"
RULE = "100 letters, digits, dots, hyphens and underscores"
NO_URL = "found no address; allowed is one such as postgresql://txapns@db.example.com/push"
NO_PASSWORD = "found a password; allowed is one in database.password_file or in ~/.pgpass"

# What stands in the file, and the lines that are said about it.
WRONG: dict[str, list[str]] = {
    # Listeners.
    "intake.native.listen = 'tcp:port=8080'": [
        f'intake.native.listen: found "tcp:port=8080", {REACHABLE}; {NO_TLS}',
    ],
    "intake.native.listen = ['tcp:1:interface=127.0.0.1', 'tcp6:2']": [
        f'intake.native.listen: found "tcp6:2", {REACHABLE}; {NO_TLS}',
    ],
    "admin.listen = 'tcp:1:interface=10.0.0.1'": [
        f'admin.listen: found "tcp:1:interface=10.0.0.1", {REACHABLE}; {NO_TLS}',
        'admin.keys: found false, and other machines can reach "tcp:1:interface=10.0.0.1"; ' + NO_KEYS,
    ],
    "intake.pyapns = {listen = 'tcp:1', keys = false, allow_without_tls = true}": [
        f'intake.pyapns.keys: found false, and other machines can reach "tcp:1"; {NO_KEYS}',
    ],
    "intake.matrix = {listen = 'tcp:1', tls.certificate = 's.pem', app_ids.x.app = 'a'}": [
        f'intake.matrix.keys: found false, and other machines can reach "tcp:1"; {NO_KEYS}',
    ],
    "intake.matrix = {wait = 0, app_ids = {}}": [NO_APP_IDS],
    "intake.matrix.app_ids.x = {app = 'a/b', counts = 1}": [
        f'intake.matrix.app_ids.x.app: found "a/b"; allowed is a name of 1 to {RULE}',
        "intake.matrix.app_ids.x.counts: found 1; allowed is true or false",
    ],
    "intake.native.listen = 'systemd:domain=INET:index=0'": [
        f'intake.native.listen: found "systemd:domain=INET:index=0", {REACHABLE}; {NO_TLS}',
    ],
    "intake.native = {listen = 'unix:/run/x:mode=666', keys = false}": [
        f'intake.native.keys: found false, {USERS} "unix:/run/x:mode=666"; {NO_MODE}'
    ],
    "admin.listen = 'haproxy:unix:/run/x:0722'": [
        f'admin.keys: found false, {USERS} "haproxy:unix:/run/x:0722"; {NO_MODE}'
    ],
    "intake.binary = {app = 'a', feedback = 'unix:mode=2:address=/run/x'}": [
        f'intake.binary.app: found "a", {USERS} "unix:mode=2:address=/run/x"; {NO_MODE.replace("keys = true, ", "")}'
    ],
    "intake.native.listen = 'unix:/run/x:mode=888'": [
        f'intake.native.listen: found "unix:/run/x:mode=888"; allowed is {ENDPOINT}'
    ],
    "intake.native.listen = 'nonsense:1'": [f'intake.native.listen: found "nonsense:1"; allowed is {ENDPOINT}'],
    "intake.native.listen = 'tcp:http'": [f'intake.native.listen: found "tcp:http"; allowed is {ENDPOINT}'],
    "intake.native.listen = 'tcp:1:zzz=1'": [f'intake.native.listen: found "tcp:1:zzz=1"; allowed is {ENDPOINT}'],
    "intake.native.listen = 'ssl:1:privateKey=/none'": [
        f'intake.native.listen: found "ssl:1:privateKey=/none"; allowed is {ENDPOINT}'
    ],
    "intake.native.listen = 'tcp:port=80800:interface=127.0.0.1'": [
        'intake.native.listen: found "tcp:port=80800:interface=127.0.0.1"; allowed is a port from 0 to 65535'
    ],
    "intake.binary = {app = 'a', feedback = 'tcp6:65536'}": [
        'intake.binary.feedback: found "tcp6:65536"; allowed is a port from 0 to 65535',
        f'intake.binary.app: found "a", and other machines can reach "tcp6:65536"; {NO_CERTIFICATE}',
    ],
    "intake.binary = {}": [
        "intake.binary: found neither tls nor app; one of them has to tell which app a caller is for"
    ],
    "intake.binary = {app = 'a', feedback = 'tcp:1'}": [
        f'intake.binary.feedback: found "tcp:1", {REACHABLE}; {NO_TLS}',
        f'intake.binary.app: found "a", and other machines can reach "tcp:1"; {NO_CERTIFICATE}',
    ],
    # The database.
    "database = {path = 'a.db', url = 'postgresql://db/push'}": [
        "database: found both path and url; give only one of them"
    ],
    "database = {password_file = 'a', schema = 'b'}": [
        "database.password_file: allowed only with database.url",
        "database.schema: allowed only with database.url",
    ],
    **{
        f"database.url = '{url}'": [f"database.url: {NO_URL}"]
        for url in ("", "mysql://db/push", "host=db password=secret", "postgresql:db", "postgresql://[/")
    },
    **{
        f"database.url = '{url}'": [f"database.url: {NO_PASSWORD}"]
        for url in (
            "postgresql://ann:secret@db/push",
            "postgresql://ann:@a:1,b:2/push",
            "postgresql:///push?host=db&password=secret",
            "postgresql://db/push?sslpassword=secret",
        )
    },
    # Apps.
    "[apps.a]": ["apps.a: found neither certificate nor key; give one of them"],
    "[apps.a]\ncertificate = 'a'\nkey = 'b'\nkey_id = 'c'\nteam_id = 'd'": [
        "apps.a: found both certificate and key; give only one of them"
    ],
    "[apps.a]\nkey = 'a'\nteam_id = 'b'": ["apps.a: key_id is missing; a signing key needs it"],
    "[apps.a]\ncertificate = 'a'\nteam_id = 'b'": ["apps.a: team_id is allowed only with a key"],
    "[apps.a]\ncertificate = 'a'\nenvironment = 'both'": ['apps.a.environment: found "both"; allowed is "auto"'],
    "[apps.a]\ncertificate = 'a'\n[apps.a.sandbox]": ['apps.a.sandbox: allowed only with environment = "auto"'],
    "[apps.a]\ncertificate = 'a'\nenvironment = 'auto'\ngateway = 'sandbox'": [
        'apps.a.gateway: found "sandbox"; with environment = "auto" it is that of production'
    ],
    "[apps.a]\ncertificate = 'a'\nenvironment = 'auto'\ngateway = 'binary:host=a:port=1'": [
        'apps.a.gateway: found "binary:host=a:port=1"; with environment = "auto" it speaks HTTP/2'
    ],
    "[apps.a]\ncertificate = 'a'\nenvironment = 'auto'\nsandbox = {gateway = 'prod', certificate = 'a', key = 'b'}": [
        f'apps.a.sandbox.gateway: found "prod"; allowed is {GATEWAY}',
        "apps.a.sandbox: found both certificate and key; give only one of them",
        "apps.a.sandbox: key_id is missing; a signing key needs it",
        "apps.a.sandbox: team_id is missing; a signing key needs it",
    ],
    "[apps.'a b']\ncertificate = 'a'": [
        'apps."a b": allowed as a name are 1 to 100 letters, digits, dots, hyphens and underscores'
    ],
    "[apps.a]\ncertificate = 'a'\ngateway = 'prod'": [
        f'apps.a.gateway: found "prod"; allowed is {GATEWAY}',
    ],
    "[apps.a]\ncertificate = 'a'\ncallers = ['AA']": [
        'apps.a.callers[0]: found "AA"; allowed is a SHA-256 of 64 hexadecimal digits, plain or as openssl prints it'
    ],
    "[apps.a]\ncertificate = 'a'\nlimits.queue = 0": [f"apps.a.limits.queue: found 0; allowed is {COUNT}"],
    # Webhooks.
    "[webhook.w]\nsecret_file = 's'": ["webhook.w.url: found nothing; allowed is a text"],
    "[webhook.w]\nsecret_file = 's'\nurl = 'http://example.com/'": [
        "webhook.w.url: found http://example.com; allowed is https://, or allow_without_tls = true"
    ],
    "[webhook.w]\nsecret_file = 's'\nurl = 'https://ann:secret@example.com/'": [
        "webhook.w.url: found no address; allowed is one such as https://example.com/hook, without user or password"
    ],
    "[webhook.w]\nsecret_file = 's'\nurl = 'https://[/'": [
        "webhook.w.url: found no address; allowed is one such as https://example.com/hook, without user or password"
    ],
    "[webhook.w]\nsecret_file = 's'\nurl = 'https://a/'\nevents = []": [
        'webhook.w.events: found an empty list; allowed is "feedback", "outcomes" or both'
    ],
    "[webhook.w]\nsecret_file = 's'\nurl = 'https://a/'\nevents = 'deaths'": [
        'webhook.w.events: found "deaths"; allowed is "feedback" or "outcomes"'
    ],
    "webhook.w = {secret_file = 's', url = 'https://a/', events = 'outcomes', apps = 'a'}\napps.a.certificate = 'a'": [
        'webhook.w.events: found "outcomes"; allowed only if one of its apps has outcomes = true'
    ],
    "retries.longest = 0.5": ["retries.longest: found 0.5; allowed is at least retries.first, 1.0"],
}

RIGHT = [
    "",
    "intake.native.listen = []",
    "intake.native.listen = ['tcp:0:interface=127.0.0.1', 'tcp6:0:interface=\\:\\:1', 'unix:/run/x']",
    "intake.native.listen = 'haproxy:tcp:80:interface=127.8.9.1'",
    "intake.native = {listen = ['unix:/run/x', 'unix:mode\\=666:mode=660', 'haproxy:unix:/run/y'], keys = false}",
    "intake.native = {listen = 'unix:/run/x:660:128', keys = false}",
    "intake.native.listen = 'unix:/run/x:mode=666'",
    "intake.native = {listen = 'unix:/run/x:666', keys = false, allow_without_keys = true}",
    "intake.native = {listen = 'tcp:80', allow_without_tls = true}",
    "intake.native = {listen = 'tcp:80', tls = {certificate = 'a'}}",
    "admin = {listen = 'tcp:80', keys = true, tls = {certificate = 'a'}}",
    "intake.apple = {listen = 'systemd:domain=INET:index=0', allow_without_tls = true}",
    "admin = {listen = 'tcp:80', allow_without_tls = true, allow_without_keys = true}",
    "intake.binary.app = 'a'",
    "intake.binary = {listen = 'tcp:80', feedback = [], tls = {certificate = 'a'}}",
    "[webhook.w]\nsecret_file = 's'\nurl = 'http://localhost:80/'",
    "[webhook.w]\nsecret_file = 's'\nurl = 'http://[::1]/'",
    "webhook.w = {secret_file = 's', url = 'https://a/', events = 'outcomes'}\napps.a.certificate = 'a'",
    "webhook.w = {secret_file = 's', url = 'https://a/', events = ['outcomes', 'feedback'], apps = 'b'}",
    "apps.a = {certificate = 'a', environment = 'auto'}",
    "apps.a = {certificate = 'a', environment = 'auto', sandbox = {gateway = 'http2:host=a:port=1', trust_root = 'b'}}",
    "apps.a = {certificate = 'a', outcomes = true}\noutcomes.most = 1",
    "limits.idle = 1",
    "database.url = 'postgresql://ann@a:5432,b:5433/push?target_session_attrs=read-write'",
    "database = {url = 'postgres:///push?host=/run/postgresql', password_file = 'a', schema = 'b'}\nnode.name = 'c-1'",
]


class ChecksTests(FaultsCase):
    """Listeners, apps and webhooks."""

    def test_lines(self) -> None:
        """Each mistake is a line: the key, what was found, what is allowed."""
        self.check(WRONG)

    def test_name_of_the_machine(self) -> None:
        """A node has the name of its machine unless it is given one; only where there is a url does that matter."""
        self.patch(socket, "gethostname", lambda: "push.example.com")
        self.assertEqual(read("database.url = 'postgresql://db/push'").node_name, "push.example.com")
        self.patch(socket, "gethostname", lambda: "-")
        machine = (
            'node.name: found nothing, and the name of this machine, "-", cannot be used; allowed is a name of 1 to '
        )
        self.check({"database.url = 'postgresql://db/push'": [machine + RULE]})
        self.assertEqual(read("database.url = 'postgresql://db/push'\nnode.name = 'push-1'").node_name, "push-1")
        read("")

    def test_right(self) -> None:
        """Valid configurations are accepted."""
        for text in RIGHT:
            read(text)
