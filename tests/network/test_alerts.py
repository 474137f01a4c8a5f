"""Tests for :mod:`txapns._network.alerts`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from txapns._network.alerts import alert_of, chain_fault, credential_advice, handshake_advice

#: OpenSSL's numbers, as far as its bindings name them, and those it has besides: 66 to 68 are about weak keys.
CODES = {
    *(code for name, code in vars(SSL.X509VerificationCodes).items() if name.startswith("ERR_")),
    *range(55, 104),
} - {101}

#: How OpenSSL spells the alerts, in its versions.
ALERTS = {
    "sslv3 alert bad certificate": "bad certificate",
    "ssl/tls alert bad certificate": "bad certificate",
    "sslv3 alert certificate revoked": "certificate revoked",
    "sslv3 alert certificate expired": "certificate expired",
    "ssl/tls alert certificate unknown": "certificate unknown",
    "sslv3 alert unsupported certificate": "unsupported certificate",
    "sslv3 alert no certificate": "no certificate",
    "tlsv1 alert unknown ca": "unknown ca",
    "tlsv1 alert access denied": "access denied",
    "tlsv13 alert certificate required": "certificate required",
    "tlsv1 certificate unobtainable": "certificate unobtainable",
    "tlsv1 bad certificate hash value": "bad certificate hash value",
    "tlsv1 alert unknown ca; and more": "unknown ca",
    "tlsv1 bad certificate status response": "",
    "sslv3 alert handshake failure": "",
    "certificate verify failed": "",
    "": "",
}

#: Words of OpenSSL's, and what the advice is about.
WORDS = {
    "sslv3 alert handshake failure": "requires a certificate",
    "ssl/tls alert handshake failure": "requires a certificate",
    "tlsv1 alert protocol version": "neither TLS 1.2 nor TLS 1.3",
    "unsupported protocol": "neither TLS 1.2 nor TLS 1.3",
    "tlsv1 alert insufficient security": "in common",
    "no shared cipher": "in common",
    "tlsv1 alert no application protocol": "does not speak HTTP/2",
    "tlsv1 unrecognized name": "does not know this host name",
    "tlsv1 alert internal error": "try again later",
    "tlsv1 alert inappropriate fallback": "neither TLS 1.2 nor TLS 1.3",
    "tlsv1 alert decode error": "ask its operator",
    "tlsv1 alert decrypt error": "ask its operator",
    "sslv3 alert bad record mac": "ask its operator",
    "sslv3 alert unexpected message": "ask its operator",
    "sslv3 alert illegal parameter": "ask its operator",
    "tlsv1 alert record overflow": "ask its operator",
    "tlsv13 alert missing extension": "ask its operator",
    "tlsv1 unsupported extension": "ask its operator",
    "tlsv1 alert user cancelled": "closed the connection",
    "unexpected eof while reading": "closed the connection",
    "wrong version number": "does not speak TLS",
    "packet length too long": "does not speak TLS",
    "http request": "does not speak TLS",
    "dh key too small": "server's keys",
    "unsafe legacy renegotiation disabled": "server's keys",
    "ee key too small": "2,048 bits",
    "ca md too weak": "2,048 bits",
}


class ChainTests(SynchronousTestCase):
    """What is wrong with a chain of certificates."""

    def test_every_number(self) -> None:
        """Each of OpenSSL's numbers has its own words and advice."""
        sentences = {code: chain_fault(code) for code in CODES}
        words = [sentence.partition(" (")[0] for sentence in sentences.values()]
        self.assertEqual(len(set(words)), len(CODES))
        for code, sentence in sentences.items():
            self.assertRegex(sentence, rf"^\w.* \(OpenSSL's error {code}\); .")
            self.assertNotIn("txapns does not know", sentence)

    def test_what_to_do(self) -> None:
        """The advice fits: give an authority, check the clock, replace the certificate."""
        for code, advice in ((19, "trust_root"), (20, "trust_root"), (10, "clock"), (66, "replace the certificate")):
            self.assertIn(advice, chain_fault(code).partition("; ")[2])

    def test_depth(self) -> None:
        """The message says that the fault is not in the server's own certificate."""
        self.assertIn("(OpenSSL's error 10, 2 above the server's own certificate)", chain_fault(10, 2))

    @given(st.integers())
    def test_any_number(self, code: int) -> None:
        """An unknown number appears in the message."""
        self.assertIn(f"OpenSSL's error {code}", chain_fault(code))


class AlertTests(SynchronousTestCase):
    """Alerts and other reasons."""

    def test_credential(self) -> None:
        """Alerts about our certificate are recognized in each spelling, and each has its advice; others are not."""
        for words, alert in ALERTS.items():
            self.assertEqual(alert_of(words), alert, words)
            if alert:
                self.assertTrue(credential_advice(alert))

    def test_handshake(self) -> None:
        """Other known reasons have advice; unknown ones have none."""
        for words, advice in WORDS.items():
            self.assertIn(advice, handshake_advice(words), words)
        self.assertEqual(handshake_advice("first; second"), "")

    @given(st.text())
    def test_any_words(self, words: str) -> None:
        """Any words are accepted."""
        alert_of(words)
        handshake_advice(words)
