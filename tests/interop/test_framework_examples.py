"""The examples for frameworks, which docs/fastapi.rst, docs/flask.rst and docs/django-celery.rst show."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import PROJECT
from tests.command.processes import DEAD, TIMEOUT
from tests.interop.test_frameworks import FRAMEWORKS, FrameworkCase
from tests.ports import reserve
from tests.processes import started
from txapns import Batch

__all__ = ["DjangoTests", "FastAPITests", "FlaskTests"]

pytestmark = [pytest.mark.interop, pytest.mark.loopback]


class FastAPITests(FrameworkCase):
    """examples/fastapi_push.py."""

    def check(self, loop: str) -> None:
        """Uvicorn tells what became of each notification, and ends in good order."""
        [port] = reserve()
        command = [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-m", "uvicorn", "--loop", loop]
        command += ["--port", str(port), "examples.fastapi_push:app"]
        process = started(self, command, env=self.variables(), stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if "Uvicorn running" in line:
                break

        def push(token: str) -> tuple[int, Any]:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/push/{token}?text=Dinner", method="POST")
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.load(error)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(push, [f"{number:064x}" for number in range(40)]))
        self.assertEqual({status for status, _ in answers}, {200})
        self.assertEqual(len({answer["apns_id"] for _, answer in answers}), 40)
        self.assertEqual(push(DEAD), (410, {"detail": "Unregistered"}))
        self.assertEqual(push("nonsense")[0], 400)
        said = self.ends(process, signal.SIGINT)
        self.assertIn("Application shutdown complete", said)
        self.assertNotIn("Traceback", said)
        self.assertNotIn("ResourceWarning", said)

    def test_asyncio(self) -> None:
        """On asyncio's loop."""
        self.check("asyncio")

    def test_uvloop(self) -> None:
        """On uvloop."""
        self.check("uvloop")


class FlaskTests(FrameworkCase):
    """examples/flask_push.py."""

    def test_gunicorn(self) -> None:
        """Two workers with four threads each tell what became of each notification."""
        [port] = reserve()
        command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--threads", "4", "--bind", f"127.0.0.1:{port}"]
        command += ["--graceful-timeout", "3600", "examples.flask_push:app"]
        process = started(self, command, env=self.variables(), stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        booted = 0
        while booted < 2:
            line = process.stderr.readline()
            self.assertTrue(line, "it ended")
            booted += "Booting worker" in line

        def push(token: str) -> tuple[int, Any]:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/push/{token}", b"Dinner is ready")
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, json.load(error)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(push, [f"{number:064x}" for number in range(40)]))
        self.assertEqual({status for status, _ in answers}, {200})
        self.assertEqual(len({answer["apns_id"] for _, answer in answers}), 40)
        self.assertEqual(push(DEAD), (410, {"reason": "Unregistered", "delete": True}))
        self.assertEqual(push("nonsense")[0], 400)
        said = self.ends(process, signal.SIGTERM)
        self.assertEqual((process.returncode, "Traceback" in said), (0, False), said)
        _, counters = self.simulator.stop()
        self.assertEqual(counters["received"], 41)


class DjangoTests(FrameworkCase):
    """examples/django_celery."""

    def test_celery(self) -> None:
        """A task sends to the devices of the database, deletes the dead one, and returns the batch."""
        place = Path(self.mktemp())
        place.mkdir()
        project = PROJECT / "examples/django_celery"
        variables = self.variables(PLACE=str(place.resolve()), DJANGO_SETTINGS_MODULE="settings")
        variables["PYTHONPATH"] = f"{FRAMEWORKS}:{PROJECT}:{project}"

        def run(*arguments: str) -> str:
            command = [sys.executable, *arguments]
            ended = subprocess.run(
                command, cwd=place, env=variables, capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
            self.assertEqual(ended.returncode, 0, ended.stderr)
            return ended.stdout

        run("-m", "django", "migrate", "--run-syncdb")
        made = f"""
import django, datetime; django.setup()
from devices.models import Device
tokens = [*(f"{{number:064x}}" for number in range(500)), "{DEAD}"]
Device.objects.bulk_create(Device(token=token) for token in tokens)
Device.objects.update(registered=datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc))
"""
        run("-c", made)
        command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--concurrency", "2"]
        options: dict[str, Any] = {"cwd": place, "env": variables, "stderr": subprocess.PIPE, "text": True}
        worker = started(self, command, stdout=subprocess.DEVNULL, **options)
        push = "import json; from tasks import push; print(json.dumps(push.delay('News').get(timeout=110)))"
        first, second = (Batch.from_dict(json.loads(run("-c", push))) for _ in range(2))
        self.ends(worker, signal.SIGTERM)
        self.assertEqual((first.accepted, [token for token, _ in first.dead_tokens]), (500, [DEAD]))
        self.assertEqual((second.accepted, second.total), (500, 500))
        _, counters = self.simulator.stop()
        self.assertEqual(counters["received"], 1_001)
