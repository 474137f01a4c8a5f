"""
Credentials as they are kept: the text of a private key, with no passphrase any more, on its way into the database or
out of it.

What goes into the database is encrypted, and has the app's name inside: whoever can write to the database but does not
have the master key cannot give one app the credential of another.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

import attrs
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL

from txapns._network.tls import show
from txapns._texts import first_line
from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.daemon.config import AppSection, TLSSection
from txapns.daemon.errors import ConfigurationError, SecretError
from txapns.daemon.secrets.master_key import MasterKey, read_private
from txapns.errors import CredentialError

__all__ = ["StoredCredential", "reencrypt", "server_certificate"]


class _Decrypted(msgspec.Struct, frozen=True):
    """What is encrypted."""

    app: str
    pem: str
    key_id: str | None
    team_id: str | None


@attrs.frozen
class StoredCredential:
    """
    A credential, and the text that it can be made of again.

    :ivar credential: the credential.
    :ivar pem: a certificate with its private key and its chain, or a signing key; nothing in it is encrypted.
    """

    credential: Credential
    pem: str = attrs.field(repr=False)

    @classmethod
    def from_certificate(
        cls,
        data: bytes,
        passphrase: bytes | None,
        now: datetime,
        *,
        gateway: str | None = None,
        topic: str | None = None,
    ) -> StoredCredential:
        """
        Read a certificate with its key.

        :param data: whatever :meth:`Certificate.from_pem` reads.
        :param passphrase: opens it.
        :param now: the time at which it must be valid.
        :param gateway: the app's, as in :class:`AppSection`; of several certificates, one for it is meant.
        :param topic: the app's topic, likewise.
        :raises CredentialError: it cannot be used.
        """
        certificate = _certificate(data, passphrase, now, gateway, topic)
        chain = (each.public_bytes(Encoding.PEM) for each in (certificate.certificate, *certificate.chain))
        return cls(certificate, _pem(certificate.private_key) + b"".join(chain).decode("ascii"))

    @classmethod
    def from_key(cls, data: bytes, key_id: str, team_id: str, passphrase: bytes | None) -> StoredCredential:
        """
        Read a signing key.

        :param data: the content of a ``.p8``.
        :param key_id: the key's identifier.
        :param team_id: the team's identifier.
        :param passphrase: opens it, if someone encrypted it.
        :raises CredentialError: it cannot be used.
        """
        token = ProviderToken.from_p8(data, key_id, team_id, passphrase=passphrase)
        return cls(token, _pem(token.private_key))

    @classmethod
    def from_section(cls, section: AppSection, now: datetime) -> StoredCredential:
        """
        Read what the configuration names.

        :param section: the app's.
        :param now: the time at which a certificate must be valid.
        :raises ConfigurationError: it names nothing, or a file cannot be read, or others can read it.
        :raises CredentialError: it cannot be used; the message names the file.
        """
        passphrase = None if section.passphrase_file is None else first_line(read_private(section.passphrase_file))
        path = section.certificate or section.key
        if path is None:
            raise ConfigurationError("there is neither a certificate nor a key")
        data = read_private(path)
        try:
            if section.key is None:
                return cls.from_certificate(data, passphrase, now, gateway=section.gateway, topic=section.topic)
            return cls.from_key(data, section.key_id or "", section.team_id or "", passphrase)
        except CredentialError as error:
            raise type(error)(f"{path}: {error}") from None

    def encrypt(self, app: str, key: MasterKey) -> bytes:
        """
        Encrypt it.

        :param app: the name of the app it is for.
        :param key: the master key.
        """
        made = self.credential
        key_id, team_id = (made.key_id, made.team_id) if isinstance(made, ProviderToken) else (None, None)
        return key.encrypt(msgspec.json.encode(_Decrypted(app, self.pem, key_id, team_id)))

    @classmethod
    def decrypt(cls, encrypted: bytes, app: str, key: MasterKey, now: datetime) -> StoredCredential:
        """
        Decrypt it.

        :param encrypted: what :meth:`encrypt` gave.
        :param app: the name of the app it is for.
        :param key: the master key.
        :param now: the time at which a certificate must be valid.
        :raises SecretError: the key does not open it, or it is another app's.
        :raises CredentialError: it cannot be used any more.
        """
        found = _opened(encrypted, app, key)
        if found.key_id is None or found.team_id is None:
            return cls(Certificate.from_pem(found.pem, now=now), found.pem)
        return cls(ProviderToken.from_p8(found.pem, found.key_id, found.team_id), found.pem)


def reencrypt(encrypted: bytes, app: str, key: MasterKey) -> bytes:
    """
    Encrypt a credential anew, whether it can be used or not.

    :param encrypted: what :meth:`StoredCredential.encrypt` gave.
    :param app: the name of the app it is for.
    :param key: the master key, which opens it and encrypts from now on.
    :raises SecretError: the key does not open it, or it is another app's.
    """
    _opened(encrypted, app, key)
    return key.rotate(encrypted)


def _opened(encrypted: bytes, app: str, key: MasterKey) -> _Decrypted:
    try:
        found = msgspec.json.decode(key.decrypt(encrypted), type=_Decrypted)
    except msgspec.MsgspecError:
        raise SecretError(f"what is stored as the credential of {app} is not a credential") from None
    if found.app != app:
        raise SecretError(f"the credential stored for {app} is that of {found.app}: somebody moved it")
    return found


def _certificate(
    data: bytes, passphrase: bytes | None, now: datetime, gateway: str | None, topic: str | None
) -> Certificate:
    environment = gateway if gateway in ("sandbox", "production") else None
    if environment is not None or topic is not None:
        with suppress(CredentialError):  # it may be the only one, and what is wrong with it is another matter
            return Certificate.from_pem(data, passphrase=passphrase, now=now, environment=environment, topic=topic)
    return Certificate.from_pem(data, passphrase=passphrase, now=now)


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


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
        certificate = Certificate.from_pem(private, public, now=now)
        show(SSL.Context(SSL.TLS_METHOD), certificate)
    except CredentialError as error:
        raise type(error)(f"{section.certificate}: {error}") from None
    return certificate
