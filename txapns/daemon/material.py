"""
Credentials as they are kept: the text of a private key, with no passphrase any more, on its way into the database or
out of it.

What goes into the database is encrypted, and has the app's name inside: whoever can write to the database but does not
have the master key cannot give one app the credential of another.
"""

from __future__ import annotations

from datetime import datetime

import attrs
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.daemon.config import AppSection, TLSSection
from txapns.daemon.errors import ConfigurationError, SecretError
from txapns.daemon.secrets import MasterKey, read_private
from txapns.errors import CredentialError
from txapns.texts import first_line

__all__ = ["Material", "server_certificate"]


class _Sealed(msgspec.Struct, frozen=True):
    """What is encrypted."""

    app: str
    pem: str
    key_id: str | None
    team_id: str | None


@attrs.frozen
class Material:
    """
    What a credential is made of. It has been made once, so it can be.

    :ivar pem: a certificate with its private key, or a signing key.
    :ivar key_id: the signing key's identifier; ``None`` for a certificate.
    :ivar team_id: the team's identifier; ``None`` for a certificate.
    """

    pem: str = attrs.field(repr=False)
    key_id: str | None = None
    team_id: str | None = None

    @classmethod
    def from_certificate(cls, data: bytes, passphrase: bytes | None, now: datetime) -> Material:
        """
        Read a certificate with its key.

        :param data: PEM or PKCS#12.
        :param passphrase: opens it.
        :param now: the time at which it must be valid.
        :raises CredentialError: it cannot be used.
        """
        if b"-----BEGIN " in data:
            certificate = Certificate.from_pem(data, passphrase=passphrase, now=now)
        else:
            certificate = Certificate.from_pkcs12(data, passphrase, now=now)
        key = certificate.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain = (each.public_bytes(Encoding.PEM) for each in (certificate.certificate, *certificate.chain))
        return cls((key + b"".join(chain)).decode("ascii"))

    @classmethod
    def from_key(cls, data: bytes, key_id: str, team_id: str, passphrase: bytes | None) -> Material:
        """
        Read a signing key.

        :param data: the content of a ``.p8``.
        :param key_id: the key's identifier.
        :param team_id: the team's identifier.
        :param passphrase: opens it, if someone encrypted it.
        :raises CredentialError: it cannot be used.
        """
        ProviderToken.from_p8(data, key_id, team_id, passphrase=passphrase)  # tells what is wrong with it
        begin = data.index(b"-----BEGIN ")
        encrypted = data[begin:].startswith(b"-----BEGIN ENCRYPTED")
        key = serialization.load_pem_private_key(data[begin:], passphrase if encrypted else None)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return cls(pem.decode("ascii"), key_id, team_id)

    @classmethod
    def from_section(cls, section: AppSection, now: datetime) -> Material:
        """
        Read what the configuration names.

        :param section: the app's.
        :param now: the time at which a certificate must be valid.
        :raises ConfigurationError: a file cannot be read, or others can read it.
        :raises CredentialError: it cannot be used; the message names the file.
        """
        passphrase = None if section.passphrase_file is None else first_line(read_private(section.passphrase_file))
        path = section.certificate or section.key
        assert path is not None
        data = read_private(path)
        try:
            if section.key is None:
                return cls.from_certificate(data, passphrase, now)
            return cls.from_key(data, section.key_id or "", section.team_id or "", passphrase)
        except CredentialError as error:
            raise type(error)(f"{path}: {error}") from None

    def credential(self, now: datetime) -> Credential:
        """
        Make the credential.

        :param now: the time at which a certificate must be valid.
        :raises CredentialError: it is not any more.
        """
        if self.key_id is None or self.team_id is None:
            return Certificate.from_pem(self.pem, now=now)
        return ProviderToken.from_p8(self.pem, self.key_id, self.team_id)

    def seal(self, app: str, key: MasterKey) -> bytes:
        """
        Encrypt it.

        :param app: the name of the app it is for.
        :param key: the master key.
        """
        return key.encrypt(msgspec.json.encode(_Sealed(app, self.pem, self.key_id, self.team_id)))

    @classmethod
    def unseal(cls, sealed: bytes, app: str, key: MasterKey) -> Material:
        """
        Decrypt it.

        :param sealed: what :meth:`seal` gave.
        :param app: the name of the app it is for.
        :param key: the master key.
        :raises SecretError: the key does not open it, or it is another app's.
        """
        found = msgspec.json.decode(key.decrypt(sealed), type=_Sealed)
        if found.app != app:
            raise SecretError(f"the credential stored for {app} is that of {found.app}: somebody moved it")
        return cls(found.pem, found.key_id, found.team_id)


def server_certificate(section: TLSSection, now: datetime) -> Certificate:
    """
    Read what a listener shows of itself.

    :param section: names the files.
    :param now: the time at which it must be valid.
    :raises ConfigurationError: a file cannot be read, or others can read the private key.
    :raises CredentialError: it cannot be used; the message names the file.
    """
    private = read_private(section.key or section.certificate)
    try:
        public = b"" if section.key is None else section.certificate.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{section.certificate}: {error.strerror}") from None
    try:
        return Certificate.from_pem(private, public, now=now)
    except CredentialError as error:
        raise type(error)(f"{section.certificate}: {error}") from None
