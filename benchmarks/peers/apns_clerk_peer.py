"""Send with apns-clerk, for ``benchmarks/binary.py``; see there."""

import json
import os
import sys
import time
from pathlib import Path

from apns_clerk import APNs, Message, Session
from apns_clerk.backends import stdio
from OpenSSL import SSL, crypto

#: How long it waits for an error packet after the last notification, in seconds.
QUIET = 1


class Certificate(stdio.Certificate):
    """A connection with a modern context: the library's own asks for TLS 1.0."""

    def load_context(self, cert_file=None, **others):
        """Make the context, with the certificate."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.use_certificate_file(cert_file)
        context.use_privatekey_file(cert_file)
        return context, crypto.load_certificate(crypto.FILETYPE_PEM, Path(cert_file).read_bytes())


port, state, count, expiration = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
tokens = [f"{number:064x}" for number in range(count)]
before, started = os.times(), time.perf_counter()
session = Session(connect_timeout=None, read_tail_timeout=QUIET)
connection = session.get_connection(("127.0.0.1", port), Certificate(cert_file=f"{state}/client.pem"))
result = APNs(connection).send(Message(tokens, alert="x" * 100, expiry=expiration))
took, after = time.perf_counter() - started, os.times()
assert not (result.failed or result.errors or result.needs_retry()), result.errors
cpu = after.user + after.system - before.user - before.system
print(json.dumps({"rate": count / (took - QUIET), "cpu": cpu / count * 1e6}))
