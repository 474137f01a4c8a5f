"""Run a program of docs/migrating.rst that another library is needed for; see ``tests/interop/__init__.py``."""

import functools
import json
import os
import signal
import sys
from pathlib import Path

signal.alarm(60)
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


os.chdir(given["directory"])
{"apns-client": lead_apnsclient, "aioapns": lead_aioapns}[given["library"]]()
exec(given["program"], {"database": Database, **given["names"]})
print(json.dumps([each.decode() if isinstance(each, bytes) else each for each in forgotten]))
