"""
Encrypted credentials from callers, decrypted in a process of their own.

Decryption is slow by design. It may take a second, and holds the interpreter's lock, so no other thread makes progress.
What is known to be quick, which includes everything that is not encrypted, is read in place.
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

#: The longest that decryption may take, in seconds. The work is bounded, so only a busy machine needs this long.
PATIENCE = 60.0

_COMMAND = "from txapns.daemon.secrets.opening import main; main()"


class _Question(msgspec.Struct):
    data: bytes
    passphrase: bytes | None


class _Answer(msgspec.Struct):
    """The process's output: keys and certificates in PEM, or the name of an error and its message."""

    pem: str = ""
    error: str = ""
    message: str = ""


def opened(data: bytes, passphrase: bytes | None) -> bytes:
    """
    Decrypt a credential, unless reading it is quick. This may take long, so call it in a thread.

    :returns: the same data, or PEM that is not encrypted.
    :raises CredentialError: it cannot be decrypted.
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
            start_new_session=True,  # a signal from the terminal is for the daemon, which waits for this process
        )
    except (OSError, subprocess.SubprocessError):
        raise CredentialError("it takes too long to decrypt, or cannot be decrypted") from None
    answer = msgspec.json.decode(done.stdout, type=_Answer)
    if answer.error:
        raise getattr(errors, answer.error)(answer.message)
    return answer.pem.encode("ascii")


def main() -> None:
    """Read one question from standard input, and write the answer to standard output."""
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
