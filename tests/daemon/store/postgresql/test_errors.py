"""Tests for :mod:`txapns.daemon.store.postgresql.errors`; what real servers say is tested with the connection."""

from __future__ import annotations

import psycopg
from psycopg import errors
from twisted.trial.unittest import SynchronousTestCase

from txapns.daemon.errors import ConfigurationError, DatabaseError
from txapns.daemon.store.postgresql.errors import FULL, Unusable, explained, in_words, retried

__all__ = ["ErrorTests"]


def error(state: str, text: str = "text") -> psycopg.Error:
    """Make the error of a SQLSTATE."""
    return errors.lookup(state)(text)


class ErrorTests(SynchronousTestCase):
    """Each error has a meaning."""

    def test_states(self) -> None:
        """Errors of the server and of the disk have nothing to do with the statement."""
        expected = {
            "25006": "the database is read-only",
            "40001": "too many transactions at once",
            "40P01": "too many transactions at once",
            "42501": "the database's user lacks a right",
            "42P01": "a table is missing",
            "53100": FULL,
            "53200": "the database is out of memory",
            "53300": "the database has no connection left",
            "55P03": "a lock in the database was not released",
            "57014": "the database is too slow",
            "57P01": "the database is starting or stopping",
            "57P03": "the database is starting or stopping",
            "58030": "the database cannot use its disk",
            "XX001": "the database is damaged",
        }
        for state, text in expected.items():
            found = explained(error(state))
            assert found is not None
            self.assertTrue(found.text.startswith(text), found.text)
            self.assertEqual(found.detail, "text")
            self.assertGreater(found.retry_after, 0)

    def test_statements(self) -> None:
        """Errors of a statement or of its data are passed on, and so is any other exception."""
        for state in ("22P02", "23505", "42601", "XX000"):
            self.assertIsNone(explained(error(state)), state)
        self.assertIsNone(explained(ZeroDivisionError()))
        self.assertIsNone(explained(psycopg.ProgrammingError("the query has 1 placeholder but 0 parameters")))

    def test_every_state(self) -> None:
        """Whatever the state, nothing fails, and the class of connection errors is always a loss."""
        states = {getattr(each, "sqlstate", None) for each in vars(errors).values()}
        self.assertGreater(len(states), 200)
        for state in (each for each in states if isinstance(each, str)):
            found = explained(error(state))
            if state.startswith("08"):
                assert found is not None
                self.assertTrue(found.lost)

    def test_texts(self) -> None:
        """Where there is no state, the text tells. Its hints are left out, and addresses are in the details alone."""
        at = 'connection to server at "10.0.0.1", port 5432 failed: '
        expected = {
            "FATAL:  sorry, too many clients already": "the database has no connection left (max_connections)",
            "FATAL:  remaining connection slots are reserved": "the database has no connection left (max_connections)",
            'FATAL:  password authentication failed for user "push"': "the database does not accept the user or the",
            "fe_sendauth: no password supplied": "the database does not accept the user or the password",
            'FATAL:  no pg_hba.conf entry for host "10.0.0.2"': "the database does not admit this host or user",
            'FATAL:  database "push" does not exist': "the database does not exist",
            "FATAL:  the database system is starting up": "the database is starting or stopping",
            "FATAL:  the database system is shutting down": "the database is starting or stopping",
            "session is read-only": "the database is read-only",
            "SSL error: certificate verify failed": "the database's server cannot be verified",
            "Connection refused\n\tIs the server running?": "the database is away",
            "was? passiert!": "the database is away",
        }
        for text, words in expected.items():
            found = explained(psycopg.OperationalError(at + text))
            assert found is not None
            self.assertTrue(found.text.startswith(words), found.text)
            self.assertEqual(found.detail, (at + text).partition("\n")[0])
            self.assertNotIn("10.0.0.1", found.text)
            self.assertTrue(found.lost)

    def test_in_words(self) -> None:
        """An operator is told where, what is wrong, and what the server says."""
        where = "postgresql://db/push"
        missing = in_words(error("42501", "permission denied for schema txapns"), where)
        self.assertIsInstance(missing, DatabaseError)
        self.assertEqual(
            str(missing), f"{where}: the database's user lacks a right: permission denied for schema txapns"
        )
        self.assertEqual(str(in_words(error("42601", "syntax error"), where)), f"{where}: syntax error")
        reason = ConfigurationError("password: No such file or directory")
        self.assertIs(in_words(Unusable(reason), where), reason)

    def test_retried(self) -> None:
        """Transactions that met others are tried again, and those whose plans are out of date."""
        self.assertTrue(retried(error("40001")) and retried(error("40P01")))
        self.assertTrue(retried(error("0A000", "cached plan must not change result type")))
        for other in (error("0A000", "not supported"), error("23505"), error("57014"), ZeroDivisionError()):
            self.assertFalse(retried(other))
