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
        """It is its owner's alone, and nothing else is left in the directory."""
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(read_private(self.path), b"hunter2")
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_modes(self) -> None:
        """Others may not read or write it; the group of root's may read."""
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
        """A link counts as what it leads to."""
        link = Path(self.mktemp())
        link.symlink_to(self.path.absolute())
        self.assertEqual(read_private(link), b"hunter2")
        write_private(link, b"other", replace=True)
        self.assertTrue(link.is_symlink())
        self.assertEqual(self.path.read_bytes(), b"other")

    def test_no_file(self) -> None:
        """What is not there, or is a directory or a pipe, is told as such at once."""
        pipe = Path(self.mktemp())
        os.mkfifo(pipe, 0o600)
        for path in (pipe, Path("/")):
            self.assertIn("not a regular file", str(self.assertRaises(ConfigurationError, read_private, path)))
        with self.assertRaisesRegex(ConfigurationError, "none: No such file"):
            read_private(Path("none"))

    def test_not_replaced(self) -> None:
        """What is there is replaced only if that is meant, and keeps its mode."""
        self.assertRaises(FileExistsError, write_private, self.path, b"other")
        self.assertEqual(read_private(self.path), b"hunter2")
        self.path.chmod(0o400)
        write_private(self.path, b"other", replace=True)
        self.assertEqual((read_private(self.path), self.path.stat().st_mode & 0o777), (b"other", 0o400))
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])


class MasterKeyTests(SynchronousTestCase):
    """The master key itself."""

    def test_round_trip(self) -> None:
        """What it encrypts, it decrypts; and nothing can be seen of it."""
        key = MasterKey([OLD])
        self.assertNotIn(b"secret", key.encrypt(b"secret"))
        self.assertEqual(key.decrypt(key.encrypt(b"secret")), b"secret")

    def test_several(self) -> None:
        """The first encrypts, all decrypt."""
        both = MasterKey([NEW, OLD])
        self.assertEqual(both.decrypt(MasterKey([OLD]).encrypt(b"a")), b"a")
        self.assertEqual(MasterKey([NEW]).decrypt(both.encrypt(b"b")), b"b")
        self.assertEqual(both.count, 2)

    def test_another(self) -> None:
        """Another key does not open it, nor is what was tampered with opened."""
        encrypted = MasterKey([OLD]).encrypt(b"a")
        self.assertRaises(SecretError, MasterKey([NEW]).decrypt, encrypted)
        self.assertRaises(SecretError, MasterKey([OLD]).decrypt, encrypted[:-4] + b"AAA=")

    def test_no_key(self) -> None:
        """What is no key is refused, and not repeated."""
        for keys in ([], [b"secret"], [OLD, b"secret"], [b"\xff"]):
            error = self.assertRaises(SecretError, MasterKey, keys)
            self.assertNotIn("secret", f"{error} {error.__cause__}")

    def test_repr(self) -> None:
        """Its representation shows nothing of it."""
        self.assertEqual(repr(MasterKey([OLD])), "<MasterKey of 1>")


class SecretsTests(SynchronousTestCase):
    """Where the master key is."""

    def setUp(self) -> None:
        """Name a file that is not there."""
        self.path = Path(self.mktemp())

    def test_created(self) -> None:
        """One is made where there is none, and only there."""
        secrets = Secrets(self.path, {})
        self.assertTrue(secrets.create())
        before = self.path.read_bytes()
        self.assertFalse(secrets.create())
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(secrets.master_key().count, 1)

    def test_environment(self) -> None:
        """The environment comes first; then no file is made."""
        secrets = Secrets(self.path, {VARIABLE: f"{NEW.decode()} {OLD.decode()}\n"})
        self.assertFalse(secrets.create())
        self.assertEqual(secrets.master_key().decrypt(MasterKey([OLD]).encrypt(b"a")), b"a")
        self.assertFalse(self.path.exists())

    def test_missing(self) -> None:
        """Where there is none, the file is named."""
        with self.assertRaisesRegex(ConfigurationError, str(self.path)):
            Secrets(self.path, {}).master_key()

    def test_exposed(self) -> None:
        """What others can read is not used."""
        secrets = Secrets(self.path, {})
        secrets.create()
        self.path.chmod(0o644)
        with self.assertRaisesRegex(ConfigurationError, "chmod 6[04]0 it"):
            secrets.master_key()

    def test_no_key(self) -> None:
        """Where something else is there, its place is told, and not what it is."""
        write_private(self.path, b"hunter2")
        error = self.assertRaises(SecretError, Secrets(self.path, {}).master_key)
        self.assertIn(str(self.path), str(error))
        other = self.assertRaises(SecretError, Secrets(self.path, {VARIABLE: "hunter2"}).master_key)
        self.assertIn(VARIABLE, str(other))
        self.assertNotIn("hunter2", f"{error} {other}")

    def test_repr(self) -> None:
        """Its representation tells where, not what."""
        self.assertEqual(repr(Secrets(self.path, {})), f"<Secrets in {self.path}>")
        self.assertNotIn(OLD.decode(), repr(Secrets(self.path, {VARIABLE: OLD.decode()})))


class RekeyingTests(SynchronousTestCase):
    """A change of the master key."""

    def setUp(self) -> None:
        """Have a key in a file, and something encrypted."""
        self.path = Path(self.mktemp())
        write_private(self.path, OLD + b"\n")
        self.secrets = Secrets(self.path, {})
        self.encrypted = self.secrets.master_key().encrypt(b"a")

    def test_done(self) -> None:
        """Meanwhile the file opens the old and the new, then the new alone."""
        with self.secrets.rekeying() as key:
            anew = key.rotate(self.encrypted)
            for each in (self.encrypted, anew):
                self.assertEqual(self.secrets.master_key().decrypt(each), b"a")
        self.assertEqual(self.secrets.master_key().decrypt(anew), b"a")
        self.assertRaises(SecretError, self.secrets.master_key().decrypt, self.encrypted)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_interrupted(self) -> None:
        """If it fails on the way, the file opens all there may be; the next time goes to its end."""
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
        """In the environment the operator puts the new key before the old one, or is told to."""
        one = Secrets(self.path, {VARIABLE: OLD.decode()})
        with self.assertRaisesRegex(ConfigurationError, f"before the old one in {VARIABLE}"), one.rekeying():
            self.fail("there is no new key")
        with Secrets(self.path, {VARIABLE: f"{NEW.decode()} {OLD.decode()}"}).rekeying() as key:
            self.assertEqual(MasterKey([NEW]).decrypt(key.rotate(self.encrypted)), b"a")
        self.assertEqual(self.path.read_bytes(), OLD + b"\n")

    def test_no_key(self) -> None:
        """A file with something else in it is left as it is."""
        write_private(self.path, b"something else", replace=True)
        with self.assertRaises(SecretError), self.secrets.rekeying():
            self.fail("this cannot be changed")
        self.assertEqual(self.path.read_bytes(), b"something else")
