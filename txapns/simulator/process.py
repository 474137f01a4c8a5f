"""
``txapns simulate`` as a process that ends with the program that started it, for tests of any framework::

    class InvitationTests(unittest.TestCase):
        def setUp(self):
            self.simulator = SimulatorProcess()
            self.simulator.start()
            self.addCleanup(self.simulator.stop)

The process has a reactor of its own; the program that starts it needs none. That program holds the other end of the
process's standard input, so the process ends with it even if it is killed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from txapns.simulator.control import SimulatorControl

__all__ = ["HOST", "PASSPHRASE", "SimulatorProcess"]

if TYPE_CHECKING:
    from typing_extensions import Self

#: The name of the host in the certificates of the servers.
HOST = "localhost"
#: That of the PKCS #12 files.
PASSPHRASE = "txapns"  # noqa: S105  # it protects nothing
#: Not ``-m``, which takes modules from the working directory.
_COMMAND = (sys.executable, "-c", "from txapns.command.main import main; main()", "simulate", "--until-eof")
_FILES = ("ca", "certificate", "pkcs12", "rsa_certificate", "rsa_pkcs12", "key")
#: How long it may take to start or to end, in seconds; on a busy machine that is long.
_PATIENCE = 60.0
_MOMENT = 1.0


class SimulatorProcess(SimulatorControl):
    """
    A simulator in a process of its own, which is also a context manager. It needs the extra ``cli``.

    :param topic: the app's bundle ID.
    :param options: further options of ``txapns simulate``, as on the command line.

    :ivar topic: the app's bundle ID.
    :ivar url: the URL of its page and its control API. It is known when it has started, like what follows.
    :ivar ports: the ports by name: ``"http2"``, ``"binary"``, ``"feedback"``, ``"channels"``, ``"web"``.
    :ivar files: the files by name: ``"ca"``, the authority to trust; ``"key"``, a signing key for provider tokens;
        ``"certificate"`` and ``"pkcs12"``, each a client certificate with its key; ``"rsa_certificate"`` and
        ``"rsa_pkcs12"``, the same with RSA. They are gone when it has ended.
    :ivar key_id: the identifier of the key.
    :ivar team_id: the identifier of its team.
    """

    ports: Mapping[str, int]
    files: Mapping[str, Path]
    key_id: str
    team_id: str

    def __init__(self, topic: str = "com.example.app", options: Sequence[str] = ()) -> None:
        super().__init__("")
        self.topic = topic
        self._options = [*options, "--topic", topic]
        self._directory: Path | None = None
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """
        Start it, and wait until it listens.

        :raises RuntimeError: it does not start; the message has what it printed.
        """
        if self._process is not None:
            raise RuntimeError("it has been started already")
        self._directory = directory = Path(tempfile.mkdtemp(prefix="apns-simulator-"))
        with (directory / "errors").open("w") as errors:
            self._process = subprocess.Popen(  # noqa: S603  # the options are those of the tests
                [*_COMMAND, "--state", str(directory / "state"), *self._options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=directory,
                start_new_session=True,  # Ctrl-C is for the tests, which then end it
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            printed = self._printed()
            self.stop()
            raise RuntimeError(f"txapns simulate did not start: {printed}")
        self._read(json.loads(line), directory / "state")

    def stop(self) -> None:
        """End it, if it runs, and remove its files."""
        if self._process is not None:
            process, self._process = self._process, None
            try:
                process.communicate(timeout=_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
        if self._directory is not None:
            shutil.rmtree(self._directory)
            self._directory = None

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """
        Send a request of the control API; see :meth:`SimulatorControl.ask`.

        :raises RuntimeError: the process has ended, as when a test has killed it; the message says how.
        """
        try:
            return super().ask(method, path, body)
        except OSError:
            if self._process is None or not self._is_over():
                raise
            status = self._process.returncode
            raise RuntimeError(f"txapns simulate has ended, with status {status}: {self._printed()}") from None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _is_over(self) -> bool:
        """Whether it has ended; it closes its connections a moment before."""
        assert self._process is not None
        try:
            self._process.wait(_MOMENT)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _printed(self) -> str:
        """Return what it printed on standard error."""
        assert self._directory is not None
        return (self._directory / "errors").read_text().strip() or "it printed nothing"

    def _read(self, ready: Mapping[str, Any], state: Path) -> None:
        self.files = {name: state / ready[name] for name in _FILES}
        self.key_id, self.team_id = ready["key_id"], ready["team_id"]
        self.ports = {name: port for name, port in ready.items() if type(port) is int}
        self.url = f"http://127.0.0.1:{self.ports['web']}"
