"""A headless Chromium that shows a page: the DevTools protocol over two pipes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import imagecodecs
import numpy as np

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_DEADLINE_S = 120


def found() -> str | None:
    """The program, if there is one."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


class Page:
    """One page of a browser of its own, closed at the end of a ``with``."""

    def __init__(self, folder: Path, width: int = 1000, height: int = 800) -> None:
        to_read, to_write = os.pipe(), os.pipe()
        # The browser reads from descriptor 3 and writes to 4.
        command = (
            f'exec 3<&{to_read[0]} 4>&{to_write[1]}; exec "$0" "$@"',
            found(),
            "--headless=new",
            "--no-sandbox",
            "--remote-debugging-pipe",
            f"--user-data-dir={folder / 'browser'}",
            f"--window-size={width},{height}",
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "about:blank",
        )
        self._process = subprocess.Popen(
            ["bash", "-c", *command],
            pass_fds=(to_read[0], to_write[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read[0])
        os.close(to_write[1])
        self._input, self._output = os.fdopen(to_read[1], "wb", 0), os.fdopen(to_write[0], "rb")
        self._number, self._buffer, self._session = 0, b"", ""
        self.logged: list[str] = []
        self.requested: list[str] = []
        self.failed: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def __enter__(self) -> Page:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait()
        self._input.close()
        self._output.close()

    def call(self, method: str, **parameters: Any) -> Any:
        """What a command of the protocol answers; events that come before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._input.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._keep(answer)

    def _next(self) -> Any:
        while b"\0" not in self._buffer:
            piece = os.read(self._output.fileno(), 1 << 16)
            assert piece, "the browser ended"
            self._buffer += piece
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _keep(self, event: Any) -> None:
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.logged.append(json.dumps(parameters["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] == "error":
            self.logged.append(json.dumps(parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.logged.append(json.dumps(parameters["entry"]))
        elif method == "Network.requestWillBeSent":
            self.requested.append(parameters["request"]["url"])
        elif method == "Network.responseReceived" and parameters["response"]["status"] >= 400:
            self.failed.append(parameters["response"]["url"])

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, after its promise."""
        asked = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = self.call("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, url: str) -> None:
        """Goes to an address, and forgets what was logged and requested before."""
        self.call("Page.navigate", url="about:blank")
        self.logged, self.requested, self.failed = [], [], []
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def wait_for(self, script: str) -> None:
        """Waits until an expression is true."""
        end = time.monotonic() + _DEADLINE_S
        while not self.evaluate(script):
            assert time.monotonic() < end, f"not true in {_DEADLINE_S} s: {script}"
            time.sleep(0.1)

    def wait_for_viewer(self, window: str = "window") -> None:
        """Waits until the viewer has a state and has drawn it."""
        viewer = f"{window}.viewer"
        self.wait_for(f"!!{viewer} && {viewer}.layerManager.managedLayers.length > 0")
        self.wait_for(f"{viewer}.isReady()")

    def screenshot(self, file: Path | None = None) -> np.ndarray:
        """Pixels ``(height, width, 3)``."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if file is not None:
            file.write_bytes(data)
        return np.asarray(imagecodecs.png_decode(data))[..., :3]
