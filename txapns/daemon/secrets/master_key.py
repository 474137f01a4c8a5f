"""
Files that only their owner may read, and the master key, which is one of them.

The private keys in the database are encrypted with the *master key* (Fernet: AES-128-CBC with HMAC-SHA256), so the
database and its copies are useless without it. The key is in the environment variable ``TXAPNS_MASTER_KEY`` or in a
file. Keep a copy of it, but not together with copies of the database.

Both may hold several keys, separated by white space: the first encrypts, all of them decrypt. This is how the key is
changed while the daemon runs (:meth:`Secrets.rekeying`)::

    before          old          everything is encrypted with old
    begin           new old      from here on, readers of the file can decrypt with both
    re-encrypt      new old      in one transaction of the database
    end             new

Wherever this is interrupted, everything can still be decrypted. The file is read each time a key is needed, which is
when an app is added or changed, so nothing has to be notified of a new key.
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from txapns._texts import utf8
from txapns.daemon.errors import ConfigurationError, SecretError

__all__ = ["VARIABLE", "MasterKey", "Secrets", "Stamp", "read_private", "stamp", "write_private"]

#: The environment variable that may hold the master key.
VARIABLE = "TXAPNS_MASTER_KEY"

#: Device, inode, size, and when the content and the status were changed.
Stamp: TypeAlias = tuple[int, int, int, int, int]


def read_private(path: Path) -> bytes:
    """
    Read a file that holds a secret, after checking who else can.

    It must belong to us or to root, and no other user may read or write it. The group may read a file of root's, since
    systemd and Kubernetes pass secrets to services that way.

    :raises ConfigurationError: it cannot be read, or others can; the message names the file.
    """
    try:
        # Open the file first, then check it: what is checked is what is read. A pipe without a writer must not block.
        with _opened(path, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
            fault = _exposure(os.fstat(descriptor))
            if fault:
                raise ConfigurationError(f"{path} {fault}")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read()
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None


def stamp(path: Path) -> Stamp | None:
    """Tell the state of a file, which differs once it is changed or replaced; ``None`` if it cannot be found."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _exposure(status: os.stat_result) -> str | None:
    """Say what is wrong with a file's mode and owner."""
    mode = stat.S_IMODE(status.st_mode)
    allowed = 0o640 if status.st_uid == 0 else 0o600
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if status.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
        return "belongs to another user, who could change it"
    if mode & 0o077 & ~allowed:
        return f"holds a secret, and other users have access (mode {mode:04o}); chmod {allowed:o} it"
    return None


def write_private(path: Path, content: bytes, *, replace: bool = False) -> None:
    """
    Write a file that holds a secret: readable by its owner only, on the disk when this returns, and complete or not at
    all.

    :param replace: whether there may be one already; the new one gets its owner and mode.
    :raises FileExistsError: there is one, and it must not be replaced.
    :raises OSError: it cannot be written.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # has mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if replace:
                status = path.stat()
                os.fchown(descriptor, status.st_uid, status.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
            file.flush()
            os.fsync(descriptor)
        if replace:
            temporary.replace(path.resolve())
        else:
            path.hardlink_to(temporary)  # unlike rename, it fails if there is one
    finally:
        temporary.unlink(missing_ok=True)
    with _opened(path.parent, os.O_RDONLY | os.O_DIRECTORY) as directory:
        os.fsync(directory)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class MasterKey:
    """
    What private keys in the database are encrypted with.

    :param keys: Fernet keys; the first encrypts, and all decrypt.
    :raises SecretError: there are no keys, or one is invalid.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise SecretError(
                "the master key is not 32 bytes in URL-safe base64, or several of these separated by white space"
            ) from None
        self.count = len(keys)

    def encrypt(self, plain: bytes) -> bytes:
        """Encrypt with the first key."""
        return self._fernet.encrypt(plain)

    def decrypt(self, encrypted: bytes) -> bytes:
        """Decrypt with the key that it was encrypted with; raises :exc:`SecretError` if that is another."""
        try:
            return self._fernet.decrypt(encrypted)
        except InvalidToken:
            raise SecretError("the master key does not decrypt it: it was encrypted with another") from None

    def rotate(self, encrypted: bytes) -> bytes:
        """Encrypt again, with the first key."""
        return self.encrypt(self.decrypt(encrypted))

    def __repr__(self) -> str:
        return f"<MasterKey of {self.count}>"


class Secrets:
    """Where the master key is: in a file, unless the environment has :data:`VARIABLE`."""

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self._path = path
        self._environment = environment

    @property
    def where(self) -> str:
        """The file or the variable that holds it, for messages."""
        return f"the environment variable {VARIABLE}" if VARIABLE in self._environment else str(self._path)

    def master_key(self) -> MasterKey:
        """
        Read the master key.

        :raises ConfigurationError: it is missing, cannot be read, or can be read by other users.
        :raises SecretError: it is invalid.
        """
        return self._key_of(self._keys())

    def stamp(self) -> Stamp | None:
        """Tell the state of the file that it is read from; ``None`` if it is in the environment."""
        return None if VARIABLE in self._environment else stamp(self._path)

    @property
    def missing(self) -> bool:
        """Whether there is neither the variable nor the file."""
        return VARIABLE not in self._environment and not self._path.exists()

    def create(self) -> bool:
        """
        Make a master key if there is none yet; returns whether one was made.

        It does not decrypt what was encrypted with one that was lost: check first that the database has no apps.
        """
        if not self.missing:
            return False
        try:
            self._write([Fernet.generate_key()])
        except FileExistsError:  # another process was faster
            return False
        return True

    @contextmanager
    def rekeying(self) -> Iterator[MasterKey]:
        """
        Change the master key. The body of the context encrypts everything again, and must commit before it ends.

        If the key is in the environment, the operator changes it there: the variable must already hold the new and the
        old key.

        :returns: a context with the key to re-encrypt with.
        :raises ConfigurationError: the environment has only one key, or the file cannot be read.
        :raises OSError: the file cannot be written.
        """
        if VARIABLE in self._environment:
            keys = self._keys()
            if len(keys) < 2:
                raise ConfigurationError(f"put the new key before the old one in {VARIABLE}, with a space between")
            yield self._key_of(keys)
            return
        # Without a lock, the last step of one process would discard the key of another. It ends with the process.
        with _opened(self._path.parent, os.O_RDONLY | os.O_DIRECTORY) as directory:
            fcntl.flock(directory, fcntl.LOCK_EX)
            keys = self._keys()
            self._key_of(keys)  # an invalid key must not get into the new file
            keys = [Fernet.generate_key(), *keys]
            self._write(keys, replace=True)
            yield self._key_of(keys)
            self._write(keys[:1], replace=True)

    def _keys(self) -> list[bytes]:
        if VARIABLE in self._environment:
            return self._environment[VARIABLE].encode("utf-8", "surrogateescape").split()
        return utf8(read_private(self._path)).split()

    def _key_of(self, keys: Sequence[bytes]) -> MasterKey:
        try:
            return MasterKey(keys)
        except SecretError as error:
            raise SecretError(f"{self.where}: {error}") from None

    def _write(self, keys: Sequence[bytes], *, replace: bool = False) -> None:
        write_private(self._path, b"".join(key + b"\n" for key in keys), replace=replace)

    def __repr__(self) -> str:
        return f"<Secrets in {self.where}>"
