"""Run a program of docs/migrating.rst that another library is needed for; see ``tests/interop/__init__.py``."""

import functools
import json
import os
import signal
import sys
from pathlib import Path

signal.alarm(300)
given = json.loads(sys.stdin.readline())
forgotten = []


class Database:
    """What the program takes for its database."""

    forget = staticmethod(forgotten.append)


def lead_apnsclient():
    """Lead apns-client to the simulator, with a context of today, as ``drive_apns_clerk.py`` does."""
    import apnsclient
    from apnsclient.backends import stdio
    from OpenSSL import SSL, crypto

    def load_context(self, cert_file=None, **others):
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.load_verify_locations(given["ca"])
        context.set_verify(SSL.VERIFY_PEER)
        context.use_certificate_file(cert_file)
        context.use_privatekey_file(cert_file)
        return context, crypto.load_certificate(crypto.FILETYPE_PEM, Path(cert_file).read_bytes())

    stdio.Certificate.load_context = load_context
    apnsclient.Session.ADDRESSES["push_production"] = given["host"], given["binary"]
    apnsclient.Session = functools.partial(apnsclient.Session, connect_timeout=None)


def lead_aioapns():
    """Lead aioapns to the simulator, which ``SSL_CERT_FILE`` has it trust."""
    from aioapns.connection import APNsProductionClientProtocol

    APNsProductionClientProtocol.APNS_SERVER = given["host"]
    APNsProductionClientProtocol.APNS_PORT = given["http2"]


def lead_apns2():
    """Lead PyAPNs2 to the simulator. The library below it, hyper, is from before Python 3.10."""
    import collections
    import ssl

    for name in ("Iterable", "Mapping", "MutableMapping", "MutableSet", "Sequence"):
        setattr(collections, name, getattr(collections.abc, name))
    ssl.match_hostname = lambda certificate, name: None  # ssl itself has done so
    import hyper.tls
    from apns2.client import APNsClient

    hyper.tls.cert_loc = given["ca"]
    APNsClient.LIVE_SERVER = given["host"]
    APNsClient.DEFAULT_PORT = given["http2"]


def lead_push_notifications():
    """Lead django-push-notifications, which sends with PyAPNs2, to the simulator; its database has the tokens."""
    lead_apns2()
    import django
    from django.conf import settings

    names = given["names"]
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "push_notifications"],
        PUSH_NOTIFICATIONS_SETTINGS={
            "APNS_AUTH_KEY_PATH": "AuthKey.p8",
            "APNS_AUTH_KEY_ID": names["key_id"],
            "APNS_TEAM_ID": names["team_id"],
            "APNS_TOPIC": "com.example.app",
        },
    )
    django.setup()
    from django.core.management import call_command
    from push_notifications.models import APNSDevice

    call_command("migrate", verbosity=0)
    for token in names["tokens"]:
        APNSDevice.objects.create(registration_id=token)


def remember_inactive():
    """Take what is not active any more for forgotten."""
    from push_notifications.models import APNSDevice

    forgotten.extend(APNSDevice.objects.filter(active=False).values_list("registration_id", flat=True))


LEADS = {
    "apns-client": lead_apnsclient,
    "aioapns": lead_aioapns,
    "PyAPNs2": lead_apns2,
    "django-push-notifications": lead_push_notifications,
}

os.chdir(given["directory"])
LEADS[given["library"]]()
exec(given["program"], {"database": Database, **given["names"]})
if given["library"] == "django-push-notifications":
    remember_inactive()
print(json.dumps([each.decode() if isinstance(each, bytes) else each for each in forgotten]))
