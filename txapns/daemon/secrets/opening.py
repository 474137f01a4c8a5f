"""
Encrypted credentials of strangers, opened in a process of their own.

Opening one is made to take long: it may be a second, during which the interpreter's lock is held, so that no thread
gets on. What is known to be quick, as is all that is not encrypted, is opened where it is read.
"""

from __future__ import annotations

import subprocess
import sys

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from txapns import errors
from txapns._credentials.containers import quick, read
from txapns.errors import CredentialError

__all__ = ["main", "opened"]

#: The longest that opening one may take, in seconds. The work is bounded, so it is a busy machine that needs so much.
PATIENCE = 60.0

_COMMAND = "from txapns.daemon.secrets.opening import main; main()"


class _Question(msgspec.Struct):
    """What the process is asked."""

    data: bytes
    passphrase: bytes | None


class _Answer(msgspec.Struct):
    """The keys and certificates in PEM, or the name of an error and what it says."""

    pem: str = ""
    error: str = ""
    message: str = ""


def opened(data: bytes, passphrase: bytes | None) -> bytes:
    """
    Give a credential in a form that is read quickly. This may take long, so call it in a thread.

    :param data: the credential.
    :param passphrase: opens it.
    :returns: the same, or its PEM with nothing encrypted.
    :raises CredentialError: it cannot be opened.
    """
    if quick(data):
        return data
    try:
        done = subprocess.run(  # noqa: S603 - a program of our own, with no argument from outside
            [sys.executable, "-c", _COMMAND],
            input=msgspec.json.encode(_Question(data, passphrase)),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=True,
            start_new_session=True,  # a signal from the terminal is for the daemon, which waits for this to end
        )
    except (OSError, subprocess.SubprocessError):
        raise CredentialError("it takes too long to open, or cannot be opened") from None
    answer = msgspec.json.decode(done.stdout, type=_Answer)
    if answer.error:
        raise getattr(errors, answer.error)(answer.message)
    return answer.pem.encode("ascii")


def main() -> None:
    """Answer one question, from standard input to standard output."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=_Question)
    try:
        answer = _Answer(_pem(question))
    except CredentialError as error:
        answer = _Answer(error=type(error).__name__, message=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(answer))


def _pem(question: _Question) -> str:
    contents = read(question.data, passphrase=question.passphrase)
    if not contents.keys:
        raise contents.missing("private key")
    keys = [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for key in contents.keys]
    certificates = [certificate.public_bytes(Encoding.PEM) for certificate in contents.certificates]
    return b"".join([*keys, *certificates]).decode("ascii")
