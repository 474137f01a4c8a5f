"""Tests for :mod:`txapns.daemon.secrets.master_key`."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.fernet import Fernet
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.errors import ConfigurationError, SecretError
from txapns.daemon.secrets.master_key import VARIABLE, MasterKey, Secrets, read_private, write_private

__all__ = ["FilesTests", "MasterKeyTests", "RekeyingTests", "SecretsTests"]

OLD, NEW = Fernet.generate_key(), Fernet.generate_key()


class FilesTests(SynchronousTestCase):
    """Files that only their owner may read."""

    def setUp(self) -> None:
        """Write one."""
        self.path = Path(self.mktemp())
        write_private(self.path, b"hunter2")

    def test_written(self) -> None:
        """It is readable by its owner only, and no temporary file is left."""
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(read_private(self.path), b"hunter2")
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_modes(self) -> None:
        """No other user may read or write it, but the group may read a file of root's."""
        root = self.path.stat().st_uid == 0
        for mode in (0o600, 0o400, *((0o640, 0o440) if root else ())):
            self.path.chmod(mode)
            self.assertEqual(read_private(self.path), b"hunter2")
        for mode in (0o604, 0o602, 0o620, 0o660, 0o644, *(() if root else (0o640,))):
            self.path.chmod(mode)
            error = self.assertRaises(ConfigurationError, read_private, self.path)
            self.assertIn(f"(mode {mode:04o})", str(error))
            self.assertIn(str(self.path), str(error))
            self.assertNotIn("hunter2", str(error))

    def test_links(self) -> None:
        """A symbolic link is checked by its target."""
        link = Path(self.mktemp())
        link.symlink_to(self.path.absolute())
        self.assertEqual(read_private(link), b"hunter2")
        write_private(link, b"other", replace=True)
        self.assertTrue(link.is_symlink())
        self.assertEqual(self.path.read_bytes(), b"other")

    def test_no_file(self) -> None:
        """A missing file, a directory and a pipe are reported as such, without blocking."""
        pipe = Path(self.mktemp())
        os.mkfifo(pipe, 0o600)
        for path in (pipe, Path("/")):
            self.assertIn("not a regular file", str(self.assertRaises(ConfigurationError, read_private, path)))
        with self.assertRaisesRegex(ConfigurationError, "none: No such file"):
            read_private(Path("none"))

    def test_not_replaced(self) -> None:
        """An existing file is replaced only on request, and keeps its mode."""
        self.assertRaises(FileExistsError, write_private, self.path, b"other")
        self.assertEqual(read_private(self.path), b"hunter2")
        self.path.chmod(0o400)
        write_private(self.path, b"other", replace=True)
        self.assertEqual((read_private(self.path), self.path.stat().st_mode & 0o777), (b"other", 0o400))
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])


class MasterKeyTests(SynchronousTestCase):
    """The master key itself."""

    def test_round_trip(self) -> None:
        """It decrypts what it encrypted, and the ciphertext does not contain the secret."""
        key = MasterKey([OLD])
        self.assertNotIn(b"secret", key.encrypt(b"secret"))
        self.assertEqual(key.decrypt(key.encrypt(b"secret")), b"secret")

    def test_several(self) -> None:
        """The first key encrypts, all decrypt."""
        both = MasterKey([NEW, OLD])
        self.assertEqual(both.decrypt(MasterKey([OLD]).encrypt(b"a")), b"a")
        self.assertEqual(MasterKey([NEW]).decrypt(both.encrypt(b"b")), b"b")
        self.assertEqual(both.count, 2)

    def test_another(self) -> None:
        """Another key does not decrypt it, and a changed ciphertext is not decrypted."""
        encrypted = MasterKey([OLD]).encrypt(b"a")
        self.assertRaises(SecretError, MasterKey([NEW]).decrypt, encrypted)
        self.assertRaises(SecretError, MasterKey([OLD]).decrypt, encrypted[:-4] + b"AAA=")

    def test_no_key(self) -> None:
        """An invalid key is refused, and not repeated."""
        for keys in ([], [b"secret"], [OLD, b"secret"], [b"\xff"]):
            error = self.assertRaises(SecretError, MasterKey, keys)
            self.assertNotIn("secret", f"{error} {error.__cause__}")

    def test_repr(self) -> None:
        """Its representation does not show it."""
        self.assertEqual(repr(MasterKey([OLD])), "<MasterKey of 1>")


class SecretsTests(SynchronousTestCase):
    """Where the master key is."""

    def setUp(self) -> None:
        """Name a file that does not exist."""
        self.path = Path(self.mktemp())

    def test_created(self) -> None:
        """A key is made only if there is none."""
        secrets = Secrets(self.path, {})
        self.assertTrue(secrets.create())
        before = self.path.read_bytes()
        self.assertFalse(secrets.create())
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(secrets.master_key().count, 1)

    def test_environment(self) -> None:
        """The environment overrides the file, and then no file is made."""
        secrets = Secrets(self.path, {VARIABLE: f"{NEW.decode()} {OLD.decode()}\n"})
        self.assertFalse(secrets.create())
        self.assertEqual(secrets.master_key().decrypt(MasterKey([OLD]).encrypt(b"a")), b"a")
        self.assertFalse(self.path.exists())

    def test_missing(self) -> None:
        """If it is missing, the message names the file."""
        with self.assertRaisesRegex(ConfigurationError, str(self.path)):
            Secrets(self.path, {}).master_key()

    def test_exposed(self) -> None:
        """A file that other users can read is not used."""
        secrets = Secrets(self.path, {})
        secrets.create()
        self.path.chmod(0o644)
        with self.assertRaisesRegex(ConfigurationError, "chmod 6[04]0 it"):
            secrets.master_key()

    def test_no_key(self) -> None:
        """The message about an invalid key says where it is, not what it is."""
        write_private(self.path, b"hunter2")
        error = self.assertRaises(SecretError, Secrets(self.path, {}).master_key)
        self.assertIn(str(self.path), str(error))
        other = self.assertRaises(SecretError, Secrets(self.path, {VARIABLE: "hunter2"}).master_key)
        self.assertIn(VARIABLE, str(other))
        self.assertNotIn("hunter2", f"{error} {other}")

    def test_repr(self) -> None:
        """Its representation says where the key is, not what it is."""
        self.assertEqual(repr(Secrets(self.path, {})), f"<Secrets in {self.path}>")
        self.assertNotIn(OLD.decode(), repr(Secrets(self.path, {VARIABLE: OLD.decode()})))


class RekeyingTests(SynchronousTestCase):
    """A change of the master key."""

    def setUp(self) -> None:
        """Make a key in a file, and encrypt something."""
        self.path = Path(self.mktemp())
        write_private(self.path, OLD + b"\n")
        self.secrets = Secrets(self.path, {})
        self.encrypted = self.secrets.master_key().encrypt(b"a")

    def test_done(self) -> None:
        """During the change the file decrypts old and new, afterwards only new."""
        with self.secrets.rekeying() as key:
            anew = key.rotate(self.encrypted)
            for each in (self.encrypted, anew):
                self.assertEqual(self.secrets.master_key().decrypt(each), b"a")
        self.assertEqual(self.secrets.master_key().decrypt(anew), b"a")
        self.assertRaises(SecretError, self.secrets.master_key().decrypt, self.encrypted)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_interrupted(self) -> None:
        """If it is interrupted, the file decrypts everything, and the next attempt completes it."""
        with self.assertRaises(ZeroDivisionError), self.secrets.rekeying() as key:
            anew = key.rotate(self.encrypted)
            raise ZeroDivisionError
        for each in (self.encrypted, anew):
            self.assertEqual(self.secrets.master_key().decrypt(each), b"a")
        with self.secrets.rekeying() as key:
            last = key.rotate(anew)
        self.assertEqual(self.secrets.master_key().count, 1)
        self.assertEqual(self.secrets.master_key().decrypt(last), b"a")

    def test_environment(self) -> None:
        """In the environment the operator puts the new key before the old one; a message says so."""
        one = Secrets(self.path, {VARIABLE: OLD.decode()})
        with self.assertRaisesRegex(ConfigurationError, f"before the old one in {VARIABLE}"), one.rekeying():
            self.fail("there is no new key")
        with Secrets(self.path, {VARIABLE: f"{NEW.decode()} {OLD.decode()}"}).rekeying() as key:
            self.assertEqual(MasterKey([NEW]).decrypt(key.rotate(self.encrypted)), b"a")
        self.assertEqual(self.path.read_bytes(), OLD + b"\n")

    def test_no_key(self) -> None:
        """A file that contains something else is left as it is."""
        write_private(self.path, b"something else", replace=True)
        with self.assertRaises(SecretError), self.secrets.rekeying():
            self.fail("this cannot be changed")
        self.assertEqual(self.path.read_bytes(), b"something else")
