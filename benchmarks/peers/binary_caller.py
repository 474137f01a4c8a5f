"""Write notifications, each with a payload of its own, to the daemon's binary bridge, for ``rows/daemon.py``."""

import json
import socket
import sys
from types import SimpleNamespace

from txapns.wire.frames import encode_framed

#: The one argument: see ``binary`` in ``rows/daemon.py``.
TASK = SimpleNamespace(**json.loads(sys.argv[1]))
EXPIRATION, PRIORITY = 2_000_000_000, 10


def frame(number):
    """Encode a notification."""
    text = f"{number:08}" + TASK.alert[8:]
    payload = json.dumps({"aps": {"alert": text}}, separators=(",", ":")).encode()
    return encode_framed(number + 1, number.to_bytes(32, "big"), payload, EXPIRATION, PRIORITY)


frames = b"".join(map(frame, range(TASK.count)))
host, _, port = TASK.address.rpartition(":")
with socket.create_connection((host, int(port))) as connection:
    connection.sendall(frames)
    connection.shutdown(socket.SHUT_WR)
    if answer := connection.recv(64):
        raise SystemExit(f"the daemon responded {answer!r}")
