"""
OpenSSL's reasons for a failed handshake, in words: what happened, and what to do.

OpenSSL has a number for each fault in a chain of certificates, and an alert or a reason for everything else. The
numbers are those of ``X509_verify_cert``. Alerts come from the peer (RFC 8446, section 6); their spelling depends on
OpenSSL's version, except for the words after "alert".

Sources: OpenSSL's manual, "X509_STORE_CTX_get_error" and "SSL_alert_type_string"; its ``x509_txt.c`` and ``ssl_err.c``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["alert_of", "chain_fault", "credential_advice", "handshake_advice"]

_GIVE = (
    "if this server is not Apple's, give the authority that issued its certificate as trust_root; if it should be "
    "Apple's, something on the way intercepts TLS"
)
_RENEW = "the server's operator must replace the certificate"

#: What each of OpenSSL's numbers means, grouped by what to do.
_CHAIN: Mapping[str, Mapping[int, str]] = {
    _GIVE: {
        2: "the authority above one of its issuers is unknown",
        18: "it is self-signed and not trusted",
        19: "its chain ends in a self-signed authority that is not trusted",
        20: "its authority is unknown",
        21: "its authority is unknown: the server sends only its own certificate",
        27: "its authority is not trusted for servers",
        28: "its authority is rejected for servers",
        70: "its issuer could not be looked up",
        95: "it is a raw public key, and that key is not trusted",
    },
    "check this machine's clock; if it is right, the server's operator must renew the certificate": {
        9: "it is not valid yet",
        10: "it has expired",
        13: "its start date is malformed",
        14: "its end date is malformed",
    },
    "check the host name": {
        62: "it is for another host name",
        63: "it is for another mail address",
        64: "it is for another IP address",
    },
    _RENEW: {
        4: "its signature cannot be decrypted",
        6: "the key of its issuer cannot be read",
        7: "its signature is invalid",
        22: "its chain is too long",
        23: "it is revoked",
        24: "its issuer is not a certificate authority",
        25: "its chain is longer than one of its issuers allows",
        26: "it is not for servers",
        29: "its issuer has a different name from the one it gives",
        30: "its issuer has a different key from the one it gives",
        31: "its issuer has a different serial number from the one it gives",
        32: "its issuer may not issue certificates",
        34: "it has a critical extension that OpenSSL does not know",
        37: "it is the certificate of an authority",
        38: "there are more proxy certificates than are allowed",
        39: "its key is not for signatures",
        40: "it is a proxy certificate",
        41: "one of its extensions is malformed",
        42: "its policies are malformed",
        43: "it has no policy where one is required",
        45: "it has a kind of extension that OpenSSL does not support",
        46: "it has address blocks that its issuer does not have",
        47: "its name is not among those that its issuer may certify",
        48: "its name is one that its issuer may not certify",
        49: "its issuer limits names in a way that OpenSSL does not support",
        51: "its issuer limits a kind of name that OpenSSL does not support",
        52: "its issuer limits names in a malformed way",
        53: "one of its names has a form that OpenSSL does not support",
        55: "its chain is a circle",
        56: "Suite B does not allow its version",
        57: "Suite B does not allow its kind of key",
        58: "Suite B does not allow the curve of its key",
        59: "Suite B does not allow its kind of signature",
        60: "this level of Suite B does not allow the curve of its key",
        61: "a P-256 key signed a P-384 key, which Suite B does not allow",
        65: "it matches no record in the DNS (DANE)",
        66: "its key is too short, such as RSA of fewer than 2,048 bits",
        67: "the key of one of its issuers is too short, such as RSA of fewer than 2,048 bits",
        68: "one of its issuers signed with a digest that is too weak, such as SHA-1",
        71: "it is in no Certificate Transparency log",
        72: "it is a proxy certificate whose name is not below that of its issuer",
        76: "OpenSSL does not know its kind of signature",
        77: "its kind of signature does not match the key of its issuer",
        78: "it names two different kinds of signature",
        79: "one of its issuers is not a certificate authority",
        80: "it limits the length of chains, but is not an authority's",
        81: "one of its issuers limits the length of chains, but may not issue certificates",
        82: "it is for issuing certificates, but is not an authority's",
        83: "its issuer has no name",
        84: "it has no name",
        85: "it does not say which key issued it",
        86: "it does not say which key it is for",
        87: "its list of names is empty",
        88: "its only names are in an extension that is not critical",
        89: "one of its issuers is an authority by an extension that is not critical",
        90: "its identifier of the issuer's key is marked critical, which is not allowed",
        91: "its identifier of its own key is marked critical, which is not allowed",
        92: "one of its issuers does not say what its key is for",
        93: "it has extensions, which its version does not allow",
        94: "its key gives the parameters of its curve instead of the name",
        102: "its identifier of the issuer's key is empty",
        103: "its identifier of the issuer is incomplete",
    },
    "this is a fault on this machine; if it recurs after a restart, report it": {
        1: "OpenSSL does not say why",
        17: "there is not enough memory to verify it",
        50: "this program rejected it",
        69: "OpenSSL was called without a certificate to verify",
    },
    "the program enabled a revocation check, which txapns itself does not make": {
        3: "there is no list of revoked certificates",
        5: "the signature of the list of revoked certificates cannot be decrypted",
        8: "the signature of the list of revoked certificates is invalid",
        11: "the list of revoked certificates is not valid yet",
        12: "the list of revoked certificates has expired",
        15: "the list of revoked certificates has a malformed date",
        16: "the list of revoked certificates has a malformed date for its next update",
        33: "the issuer of the list of revoked certificates is unknown",
        35: "the issuer of the list of revoked certificates may not sign it",
        36: "the list of revoked certificates has a critical extension that OpenSSL does not know",
        44: "the list of revoked certificates does not cover it",
        54: "the issuer of the list of revoked certificates is not trusted",
        73: "an OCSP check is needed",
        74: "the OCSP check failed",
        75: "the OCSP server does not know it",
        96: "the OCSP answer is malformed",
        97: "the signature of the OCSP answer is invalid",
        98: "the OCSP answer is not valid yet",
        99: "the OCSP answer has expired",
        100: "the OCSP server did not answer",
    },
}
_FAULTS = {code: (words, advice) for advice, faults in _CHAIN.items() for code, words in faults.items()}

#: The alerts by which a server rejects our certificate, or the lack of one, and what to do. "handshake failure" is not
#: one of them: it has many causes, most of which are temporary.
_CREDENTIAL_ALERTS = {
    "access denied": "ask the gateway's operator whether this certificate is allowed",
    "bad certificate": "export it again, with its key, from where it was made",
    "bad certificate hash value": "export it again, with its key, from where it was made",
    "certificate expired": "renew it in the developer account, or check this machine's clock",
    "certificate required": "this gateway requires a client certificate; give one",
    "certificate revoked": "create another in the developer account",
    "certificate unknown": "check that it is a push certificate for this environment",
    "certificate unobtainable": "export it again, with its key, from where it was made",
    "no certificate": "this gateway requires a client certificate; give one",
    "unknown ca": "check that Apple, or the gateway's operator, issued it, and that it is a push certificate",
    "unsupported certificate": "check that it is a push certificate for this environment",
}

#: What to do about OpenSSL's other reasons, and patterns for them. The first match counts.
_HANDSHAKE = {
    "the server does not speak HTTP/2; check host and port, and the gateway's protocol": "no application protocol",
    "the server accepts none of our TLS parameters, or requires a certificate; check host, port and credential": (
        "handshake failure"
    ),
    "the server supports neither TLS 1.2 nor TLS 1.3; it must be updated": (
        "protocol version|unsupported protocol|wrong ssl version|no protocols available|inappropriate fallback"
    ),
    "client and server have no cipher, curve or signature in common; the server must be updated": (
        "insufficient security|no shared cipher|no ciphers available|no shared group|no suitable"
    ),
    "the server does not know this host name; check the name": "unrecognized name",
    "the server does not speak TLS: check host and port, and whether there is a proxy in between": (
        "wrong version number|packet length too long|http request|https proxy request|record layer failure"
    ),
    "the server's keys or signatures are too weak; it must be updated": (
        "dh key too small|legacy sigalg|wrong signature type|bad ecpoint|unsafe legacy renegotiation"
    ),
    "the key or a signature is too weak for OpenSSL; use an RSA key of at least 2,048 bits or an elliptic curve": (
        "key too small|md too weak"
    ),
    "the server, or a firewall on the way, closed the connection during the handshake": "unexpected eof|user cancel",
    "the server has an internal error; try again later": "internal error",
    "something on the way changed the data, or the server is faulty; if it recurs, ask its operator": (
        "bad record mac|decryption failed|decrypt error|decode error|decompression failure|illegal parameter|"
        "missing extension|record overflow|unexpected message|unsupported extension|bad certificate status response|"
        "export restriction|no renegotiation|unknown psk identity"
    ),
}


def chain_fault(code: int, depth: int = 0) -> str:
    """Describe a fault in a chain of certificates, and what to do. At depth 0 is the server's own certificate."""
    words, advice = _FAULTS.get(code, ("OpenSSL gives a reason that txapns does not know", _RENEW))
    where = f", {depth} above the server's own certificate" if depth else ""
    return f"{words} (OpenSSL's error {code}{where}); {advice}"


def alert_of(words: str) -> str:
    """Find the alert by which a peer rejects our certificate, such as ``"certificate expired"``; otherwise ``""``."""
    alert = re.sub(r"\A\S+ (alert )?", "", words.partition(";")[0])
    return alert if alert in _CREDENTIAL_ALERTS else ""


def credential_advice(alert: str) -> str:
    """Advise what to do about an alert that :func:`alert_of` found."""
    return _CREDENTIAL_ALERTS[alert]


def handshake_advice(words: str) -> str:
    """Advise what to do about OpenSSL's reasons for a failed handshake; ``""`` for unknown ones."""
    said = words.lower()
    return next((advice for advice, pattern in _HANDSHAKE.items() if re.search(pattern, said)), "")
