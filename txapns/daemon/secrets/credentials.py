"""
Credentials read from files, and on their way into the database and out of it.

What goes into the database is encrypted together with the app's name. Somebody who can write to the database but does
not have the master key cannot give one app the credential of another.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

import msgspec
from OpenSSL import SSL

from txapns._network.tls import show
from txapns._texts import first_line
from txapns.credentials import Certificate, Credential, ProviderToken
from txapns.daemon.config.sections import CredentialSection, TLSSection
from txapns.daemon.errors import ConfigurationError, SecretError
from txapns.daemon.secrets.master_key import MasterKey, read_private
from txapns.errors import CredentialError

__all__ = ["decrypt", "encrypt", "read_certificate", "reencrypt", "section_credential", "server_certificate"]


class _Decrypted(msgspec.Struct, frozen=True):
    """
    What is encrypted.

    :ivar pem: a certificate with its private key and its chain, or a signing key; not encrypted any further.
    :ivar key_id: the signing key's identifier; ``None`` for a certificate, like ``team_id``.
    """

    app: str
    pem: str
    key_id: str | None
    team_id: str | None

    def __repr__(self) -> str:
        return "<_Decrypted>"


def encrypt(credential: Credential, app: str, key: MasterKey) -> bytes:
    """Encrypt an app's credential, together with the app's name."""
    if isinstance(credential, Certificate):
        plain = _Decrypted(app, credential.to_pem(), None, None)
    else:
        plain = _Decrypted(app, credential.to_p8(), credential.key_id, credential.team_id)
    return key.encrypt(msgspec.json.encode(plain))


def decrypt(encrypted: bytes, app: str, key: MasterKey, now: datetime) -> Credential:
    """
    Decrypt a credential; a certificate must be valid at ``now``.

    :raises SecretError: the key does not decrypt it, or it is another app's.
    :raises CredentialError: it can no longer be used.
    """
    found = _decrypted(encrypted, app, key)
    if found.key_id is None or found.team_id is None:
        return Certificate.from_pem(found.pem, now=now)
    return ProviderToken.from_p8(found.pem, found.key_id, found.team_id)


def reencrypt(encrypted: bytes, app: str, key: MasterKey) -> bytes:
    """
    Encrypt a credential again, whether it can be used or not.

    :param key: the master key, which decrypts it and encrypts from now on.
    :raises SecretError: the key does not decrypt it, or it is another app's.
    """
    _decrypted(encrypted, app, key)
    return key.rotate(encrypted)


def _decrypted(encrypted: bytes, app: str, key: MasterKey) -> _Decrypted:
    try:
        found = msgspec.json.decode(key.decrypt(encrypted), type=_Decrypted)
    except msgspec.MsgspecError:
        raise SecretError(f"what is stored as the credential of {app} is not a credential") from None
    if found.app != app:
        raise SecretError(f"the credential stored for {app} is that of {found.app}: somebody moved it")
    return found


def read_certificate(
    data: bytes, passphrase: bytes | None, now: datetime, *, gateway: str | None = None, topic: str | None = None
) -> Certificate:
    """
    Read an app's certificate with its key.

    :param gateway: the app's, as in :class:`AppSection`. Of several certificates, one for it is taken.
    :raises CredentialError: it cannot be used.
    """
    environment = gateway if gateway in ("sandbox", "production") else None
    if environment is not None or topic is not None:
        with suppress(CredentialError):  # it may be the only certificate; then report what is wrong with that
            return Certificate.from_pem(data, passphrase=passphrase, now=now, environment=environment, topic=topic)
    return Certificate.from_pem(data, passphrase=passphrase, now=now)


def section_credential(
    section: CredentialSection, now: datetime, *, gateway: str | None = None, topic: str | None = None
) -> Credential:
    """
    Read the credential that the configuration names.

    :param gateway: the app's, as in :class:`AppSection`. Of several certificates, one for it is taken.
    :param topic: the app's topic, likewise.

    :raises ConfigurationError: it names none, or a file cannot be read, or others can read it.
    :raises CredentialError: it cannot be used; the message names the file.
    """
    passphrase = None if section.passphrase_file is None else first_line(read_private(section.passphrase_file))
    path = section.certificate or section.key
    if path is None:
        raise ConfigurationError("there is neither a certificate nor a key")
    data = read_private(path)
    try:
        if section.key is None:
            return read_certificate(data, passphrase, now, gateway=gateway, topic=topic)
        return ProviderToken.from_p8(data, section.key_id or "", section.team_id or "", passphrase=passphrase)
    except CredentialError as error:
        raise type(error)(f"{path}: {error}") from None


def server_certificate(section: TLSSection, now: datetime) -> Certificate:
    """
    Read a listener's certificate with its key.

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
