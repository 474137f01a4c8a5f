"""The daemon's configuration."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from txapns.daemon.config.configuration import Configuration
from txapns.daemon.errors import ConfigurationError

__all__ = ["SEEDS", "check"]

SEEDS = [
    (Path(__file__).parent.parent / "contrib/apns.toml").read_bytes(),
    b'[intake.native]\nlisten = "tcp:port=8080:interface=127.0.0.1"\n[apps.chess]\ncertificate = "chess.pem"\n',
    b'[apps.chess]\nkey = "a.p8"\nkey_id = "ABC"\nteam_id = "DEF"\ntopic = "com.example"\n[limits]\nqueue = 1e400\n',
    b'[database]\nurl = "postgresql://txapns@db.example.com,[::1]:5432/x?sslmode=require"\n[node]\nname = "push-1"\n',
]


def check(data: bytes) -> None:
    """Check that an invalid configuration raises ``ConfigurationError``, and nothing else."""
    with suppress(ConfigurationError):
        Configuration.from_text(data.decode("utf-8", "surrogateescape"), Path("/nowhere"))
