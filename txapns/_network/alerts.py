"""
What OpenSSL says of a handshake that failed, in words: what happened, and what to do.

It has a number for each way in which a chain of certificates can be wrong, and an alert or a reason for all else. The
numbers are those of ``X509_verify_cert``; alerts are what the peer says (RFC 8446, section 6), and their spelling
depends on OpenSSL's version, but for the words behind "alert".

Sources: OpenSSL's manual, "X509_STORE_CTX_get_error" and "SSL_alert_type_string"; its ``x509_txt.c`` and ``ssl_err.c``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["alert_of", "chain_fault", "credential_advice", "handshake_advice"]

_GIVE = (
    "if this server is not Apple's, give the authority that issued its certificate as trust_root; if it should be, "
    "something on the way intercepts TLS"
)
_CLOCK = "set this machine's clock; if it is right, the server has to renew its certificate"
_RENEW = "the server has to get another certificate"
_REVOCATION = "the program set up a check for revocation, which txapns itself does not make"
_NAME = "check the host name"
_HERE = "something is wrong on this machine; if it happens again after a restart, report it"

#: What each of OpenSSL's numbers means, by what to do about it.
_CHAIN: Mapping[str, Mapping[int, str]] = {
    _GIVE: {
        2: "the authority that issued one of its issuers is not known",
        18: "it is self-signed, and not trusted itself",
        19: "its authority is not trusted: it is self-signed",
        20: "its authority is not known",
        21: "its authority is not known: the server sends nothing but its own certificate",
        27: "its authority is not trusted for servers",
        28: "its authority is refused for servers",
        70: "its issuer could not be looked up",
        95: "it is a bare key, and no such key is trusted",
    },
    _CLOCK: {
        9: "it is not valid yet",
        10: "it has expired",
        13: "its start date is malformed",
        14: "its end date is malformed",
    },
    _NAME: {
        62: "it is for another host name",
        63: "it is for another mail address",
        64: "it is for another address",
    },
    _RENEW: {
        4: "its signature cannot be decrypted",
        6: "the key of its issuer cannot be read",
        7: "its signature is wrong",
        22: "its chain is too long",
        23: "it is revoked",
        24: "its issuer is not a certificate authority",
        25: "its chain is longer than one of its issuers allows",
        26: "it is not for servers",
        29: "its issuer has another name than it says",
        30: "its issuer has another key than it says",
        31: "its issuer has another serial number than it says",
        32: "its issuer may not issue certificates",
        34: "it has a critical extension that OpenSSL does not know",
        37: "it is marked as that of an authority",
        38: "there are more proxy certificates than are allowed",
        39: "its key is not for signatures",
        40: "it is a proxy certificate",
        41: "one of its extensions is malformed",
        42: "its policies are malformed",
        43: "it has no policy where one is required",
        45: "one of its extensions is of a kind that OpenSSL does not support",
        46: "it lists blocks of addresses that its issuer does not have",
        47: "its name is not among those that its issuer may vouch for",
        48: "its name is one that its issuer may not vouch for",
        49: "its issuer limits names in a way that OpenSSL does not support",
        51: "its issuer limits a kind of name that OpenSSL does not support",
        52: "its issuer limits names in a form that is malformed",
        53: "one of its names has a form that OpenSSL does not support",
        55: "its chain leads back to itself",
        56: "its version is not one that Suite B allows",
        57: "its key is of a kind that Suite B does not allow",
        58: "its key is on a curve that Suite B does not allow",
        59: "its signature is of a kind that Suite B does not allow",
        60: "its key is on a curve that this level of Suite B does not allow",
        61: "a key on P-384 is signed with one on P-256, which Suite B does not allow",
        65: "it matches no record in the DNS (DANE)",
        66: "its key is too short, such as RSA of fewer than 2,048 bits",
        67: "the key of one of its issuers is too short, such as RSA of fewer than 2,048 bits",
        68: "one of its issuers signed with a digest that is too weak, such as SHA-1",
        71: "it is in no Certificate Transparency log",
        72: "it is a proxy certificate whose name is not below that of its issuer",
        76: "its signature is of a kind that OpenSSL does not know",
        77: "its signature is of another kind than the key of its issuer",
        78: "it names two kinds of signature",
        79: "one of its issuers is not a certificate authority",
        80: "it limits the length of chains and is not an authority's",
        81: "one of its issuers limits a chain that it may not issue",
        82: "it is for issuing certificates and is not an authority's",
        83: "its issuer has no name",
        84: "it has no name",
        85: "it does not say which key issued it",
        86: "it does not say which key it is for",
        87: "its list of names is empty",
        88: "its only names are in an extension that is not critical",
        89: "one of its issuers is an authority by an extension that is not critical",
        90: "what it says of its issuer's key is critical and must not be",
        91: "what it says of its key is critical and must not be",
        92: "one of its issuers does not say what its key is for",
        93: "its version has no extensions, and it has some",
        94: "its key spells out its curve instead of naming it",
        102: "what it says of its issuer's key is empty",
        103: "it gives half of what identifies its issuer",
    },
    _HERE: {
        1: "OpenSSL does not say why",
        17: "there is no memory left to look at it",
        50: "this program refused it",
        69: "OpenSSL was asked to verify nothing",
    },
    _REVOCATION: {
        3: "there is no list of revoked certificates",
        5: "the signature of the list of revoked certificates cannot be decrypted",
        8: "the signature of the list of revoked certificates is wrong",
        11: "the list of revoked certificates is not valid yet",
        12: "the list of revoked certificates has expired",
        15: "the list of revoked certificates has a malformed date",
        16: "the list of revoked certificates has a malformed date for the next list",
        33: "the issuer of the list of revoked certificates is not known",
        35: "the issuer of the list of revoked certificates may not sign it",
        36: "the list of revoked certificates has a critical extension that OpenSSL does not know",
        44: "the list of revoked certificates is for others",
        54: "the issuer of the list of revoked certificates is not trusted",
        73: "an OCSP check is needed",
        74: "the OCSP check failed",
        75: "OCSP does not know it",
        96: "the OCSP answer is malformed",
        97: "the signature of the OCSP answer is wrong",
        98: "the OCSP answer is not valid yet",
        99: "the OCSP answer has expired",
        100: "OCSP did not answer",
    },
}
_FAULTS = {code: (words, advice) for advice, faults in _CHAIN.items() for code, words in faults.items()}

#: The alerts by which a server refuses the certificate we showed, or our showing none, and what to do about each.
#: "handshake failure" is not one of them: it has many causes, most of which pass.
_CREDENTIAL_ALERTS = {
    "access denied": "ask the gateway's operator whether it is allowed there",
    "bad certificate": "export it anew, with its key, from where it was made",
    "bad certificate hash value": "export it anew, with its key, from where it was made",
    "certificate expired": "renew it in the developer account, or set the clock",
    "certificate required": "give a certificate, which this gateway requires",
    "certificate revoked": "make another in the developer account",
    "certificate unknown": "check that it is a push certificate, for this environment",
    "certificate unobtainable": "export it anew, with its key, from where it was made",
    "no certificate": "give a certificate, which this gateway requires",
    "unknown ca": "check that it is a push certificate issued by Apple, or by the gateway's operator",
    "unsupported certificate": "check that it is a push certificate, for this environment",
}

_NO_TLS = "what answers there does not speak TLS: check host and port, and whether a proxy is in between"
_OLD = "the server speaks neither TLS 1.2 nor TLS 1.3; it has to be updated"
_NOTHING_COMMON = "the server and we have no cipher, curve or signature in common; it has to be updated"
_WEAK_SERVER = "the server's keys or signatures are too weak; it has to be updated"
_WEAK = "the key, or a signature, is too weak for OpenSSL; make one of RSA with 2,048 bits, or of an elliptic curve"
_CUT = "the other side, or a firewall on the way, cut the connection in the middle of the handshake"
_DISTURBED = "something on the way changed what was sent, or the server is faulty; if it recurs, ask its operator"
_ITS_OWN = "the server has a fault of its own; try again later"

#: Parts of OpenSSL's other words, and what to do. The first that is found counts.
_HANDSHAKE = {
    "no application protocol": "the server does not speak HTTP/2; check host and port, and the gateway's protocol",
    "handshake failure": (
        "the server accepts nothing that we offer, or requires a certificate; check host and port, and the credential"
    ),
    "protocol version": _OLD,
    "unsupported protocol": _OLD,
    "wrong ssl version": _OLD,
    "no protocols available": _OLD,
    "inappropriate fallback": _OLD,
    "insufficient security": _NOTHING_COMMON,
    "no shared cipher": _NOTHING_COMMON,
    "no ciphers available": _NOTHING_COMMON,
    "no shared group": _NOTHING_COMMON,
    "no suitable": _NOTHING_COMMON,
    "unrecognized name": "the server does not know this host name; check it",
    "wrong version number": _NO_TLS,
    "packet length too long": _NO_TLS,
    "http request": _NO_TLS,
    "https proxy request": _NO_TLS,
    "record layer failure": _NO_TLS,
    "dh key too small": _WEAK_SERVER,
    "legacy sigalg": _WEAK_SERVER,
    "wrong signature type": _WEAK_SERVER,
    "bad ecpoint": _WEAK_SERVER,
    "unsafe legacy renegotiation": _WEAK_SERVER,
    "key too small": _WEAK,
    "md too weak": _WEAK,
    "unexpected eof": _CUT,
    "user cancel": _CUT,
    "internal error": _ITS_OWN,
    "bad record mac": _DISTURBED,
    "decryption failed": _DISTURBED,
    "decrypt error": _DISTURBED,
    "decode error": _DISTURBED,
    "decompression failure": _DISTURBED,
    "illegal parameter": _DISTURBED,
    "missing extension": _DISTURBED,
    "record overflow": _DISTURBED,
    "unexpected message": _DISTURBED,
    "unsupported extension": _DISTURBED,
    "bad certificate status response": _DISTURBED,
    "export restriction": _DISTURBED,
    "no renegotiation": _DISTURBED,
    "unknown psk identity": _DISTURBED,
}


def chain_fault(code: int, depth: int = 0) -> str:
    """
    Say what is wrong with a chain of certificates, and what to do.

    :param code: OpenSSL's number.
    :param depth: how far above the server's own certificate the one is that it is about.
    :returns: half a sentence, and the advice.
    """
    words, advice = _FAULTS.get(code, ("OpenSSL gives a reason that is not known here", _RENEW))
    where = f", {depth} above the server's own" if depth else ""
    return f"{words} (OpenSSL's error {code}{where}); {advice}"


def alert_of(words: str) -> str:
    """
    Find the alert by which a peer refuses our certificate.

    :param words: OpenSSL's reasons.
    :returns: the alert, such as ``"certificate expired"``; ``""`` where it is another, or none.
    """
    alert = re.sub(r"\A\S+ (alert )?", "", words.partition(";")[0])
    return alert if alert in _CREDENTIAL_ALERTS else ""


def credential_advice(alert: str) -> str:
    """
    Say what to do about an alert that refuses our certificate.

    :param alert: what :func:`alert_of` found.
    """
    return _CREDENTIAL_ALERTS[alert]


def handshake_advice(words: str) -> str:
    """
    Say what to do about a handshake that came to nothing.

    :param words: OpenSSL's reasons.
    :returns: the advice; ``""`` where there is none.
    """
    said = words.lower()
    return next((advice for part, advice in _HANDSHAKE.items() if part in said), "")
