"""Send with apns-clerk or apns-client, or read the feedback service; see ``tests/interop/__init__.py``."""

import importlib
import json
import signal
import sys
from pathlib import Path

from OpenSSL import SSL, crypto

signal.alarm(300)
request = json.loads(sys.stdin.readline())
library = importlib.import_module(request["library"])
stdio = importlib.import_module(request["library"] + ".backends.stdio")


class Certificate(stdio.Certificate):
    """One with a context of today: the library's own asks for TLS 1.0, and verifies nothing."""

    def load_context(self, cert_file=None, **others):
        """Make the context, and give the certificate, too."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.load_verify_locations(request["ca"])
        context.set_verify(SSL.VERIFY_PEER)
        context.use_certificate_file(cert_file)
        context.use_privatekey_file(cert_file)
        return context, crypto.load_certificate(crypto.FILETYPE_PEM, Path(cert_file).read_bytes())


def feedback(session, certificate):
    """Read the feedback service."""
    service = library.APNs(session.new_connection((request["host"], request["feedback"]), certificate))
    found = [(token, when.timestamp()) for token, when in service.feedback()]
    return {"feedback": [[token.decode() if isinstance(token, bytes) else token, when] for token, when in found]}


def send(session, certificate):
    """Send, and again what was not sent, until all is."""
    client = library.APNs(session.get_connection((request["host"], request["binary"]), certificate))
    message = library.Message(
        request["tokens"],
        alert=request["alert"],
        badge=request["badge"],
        sound=request["sound"],
        expiry=request["expiration"],
        priority=request["priority"],
    )
    refused = []
    while message is not None:
        result = client.send(message)
        refused += [[token, code] for token, (code, _) in result.failed.items()]
        message = result.retry()
    return {"refused": refused}


def main():
    """Do the task; the session has to be gone before the interpreter ends, or its ``__del__`` crashes some Pythons."""
    # A time-out for connecting would be set on the context when it is in use, which pyOpenSSL no longer allows.
    session = library.Session(connect_timeout=None)
    certificate = Certificate(cert_file=request["certificate"])
    answer = {"feedback": feedback, "send": send}[request["task"]](session, certificate)
    session.shutdown()
    return answer


print(json.dumps(main()))
