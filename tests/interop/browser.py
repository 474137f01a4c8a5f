"""
Headless Chromium, controlled by the WebDriver protocol (W3C): JSON over HTTP, for which the standard library is enough.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["CHROMIUM", "DRIVER", "Browser"]

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

_ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",  # root has none, and only our own pages are looked at
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
]
_PATIENCE = 120.0

_T = TypeVar("_T")


class Browser:
    """
    A browser.

    :param width: how wide its window is, in pixels.
    :param height: how high it is.
    :param javascript: whether it runs scripts.
    """

    def __init__(self, width: int = 1280, height: int = 900, *, javascript: bool = True) -> None:
        assert DRIVER is not None
        self._address = ""
        self._preferred: dict[str, str] = {}
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._driver = subprocess.Popen(
            [DRIVER, "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "TMPDIR": self._profile.name},
        )
        options: dict[str, Any] = {"args": [*_ARGUMENTS, f"--user-data-dir={self._profile.name}"], "binary": CHROMIUM}
        if not javascript:
            options["prefs"] = {"profile.managed_default_content_settings.javascript": 2}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        try:
            self._address = f"http://127.0.0.1:{self._port()}"
            session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._address += f"/session/{session['sessionId']}"
            self.resize(width, height)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the browser."""
        try:
            if "/session/" in self._address:
                self._ask("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait(_PATIENCE)
            assert self._driver.stdout is not None
            self._driver.stdout.close()
            self._clean_up()

    def _clean_up(self) -> None:
        """Remove the profile with its temporary files; for a moment after its end the browser still writes some."""
        self._profile.cleanup()
        end = time.monotonic() + _PATIENCE
        while Path(self._profile.name).exists() and time.monotonic() < end:
            time.sleep(0.05)
            shutil.rmtree(self._profile.name, ignore_errors=True)

    def resize(self, width: int, height: int = 900) -> None:
        """Change the size of the page; that of the window has a minimum."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._devtools("Emulation.setDeviceMetricsOverride", **size)
        self.until(lambda: self.run("return innerWidth") == width)

    def prefer_dark(self) -> None:
        """Prefer dark mode from now on."""
        self._prefer("prefers-color-scheme", "dark")

    def prefer_stillness(self) -> None:
        """Prefer no motion from now on."""
        self._prefer("prefers-reduced-motion", "reduce")

    def _prefer(self, name: str, value: str) -> None:
        self._preferred[name] = value
        features = [{"name": name, "value": value} for name, value in self._preferred.items()]
        self._devtools("Emulation.setEmulatedMedia", features=features)

    def open(self, url: str) -> None:
        """Open a page."""
        self._ask("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        """Run a script and return its result."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def text(self, selector: str) -> str:
        """Read the text of an element."""
        return str(self.run(f"return document.querySelector({json.dumps(selector)}).textContent"))

    def role(self, selector: str) -> str:
        """Read the role that a screen reader is told of an element."""
        return str(self._ask("GET", f"/element/{self._element(selector)}/computedrole"))

    def label(self, selector: str) -> str:
        """Read the name that a screen reader is told of an element."""
        return str(self._ask("GET", f"/element/{self._element(selector)}/computedlabel"))

    def _element(self, selector: str) -> str:
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        return str(found["element-6066-11e4-a52e-4f735466cecf"])  # the name of a reference in the protocol

    def press(self, key: str) -> None:
        """Press a key, by its code in the WebDriver protocol."""
        strokes = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def complaints(self) -> list[str]:
        """Read the console's new warnings and errors."""
        entries = self._ask("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def photograph(self, path: Path, *, top: float = 0.0, size: tuple[int, int] | None = None) -> None:
        """
        Take a picture of the whole page, or of a part of it.

        :param top: where the part begins, in pixels from the top of the page.
        :param size: how wide and high it is.
        """
        part = {} if size is None else {"clip": {"x": 0, "y": top, "width": size[0], "height": size[1], "scale": 1}}
        found = self._devtools("Page.captureScreenshot", captureBeyondViewport=True, **part)
        path.write_bytes(base64.b64decode(found["data"]))

    def until(self, look: Callable[[], _T]) -> _T:
        """Poll until there is a result."""
        end = time.monotonic() + _PATIENCE
        while not (found := look()):
            if time.monotonic() > end:
                raise AssertionError("the condition did not come true")
            time.sleep(0.05)
        return found

    def _port(self) -> int:
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            match = re.search(r"started successfully on port (\d+)", line)
            if match:
                return int(match[1])
        raise AssertionError("chromedriver does not start")

    def _devtools(self, command: str, **parameters: Any) -> Any:
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._address + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
            return json.load(response)["value"]
