"""Headless Chromium, driven through its debugging pipe: pages, keys, console, requests, pictures.

Messages are JSON objects that end in a zero byte (Chrome DevTools Protocol); Chromium reads them
from file descriptor 3 and writes them to 4.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

__all__ = ["CHROMIUM", "Browser"]

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    "--headless=new",
    "--autoplay-policy=no-user-gesture-required",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-first-run",
    "--remote-debugging-pipe",
)
PATIENCE = 60.0


class Browser:
    """One tab.

    Attributes:
        said: messages of the console, and errors.
        errors: those of them that are errors.
        requests: the addresses asked.
    """

    def __init__(self) -> None:
        self.said: list[str] = []
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.number, self.buffer = 0, b""

    def __enter__(self) -> Self:
        self.folder = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        read, self.out = os.pipe()
        self.into, write = os.pipe()
        # Bash gives them the numbers 3 and 4, which theirs must not have.
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (read, write)]
        launch = 'exec "$@" 3<&{} 4>&{}'.format(*theirs)
        self.program = subprocess.Popen(
            ["bash", "-c", launch, "bash", str(CHROMIUM), *FLAGS, *self.profile()],
            pass_fds=theirs,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": self.folder.name},
        )
        for end in (read, write, *theirs):
            os.close(end)
        try:
            self.attach()
        except Exception:
            self.__exit__()
            raise
        return self

    def profile(self) -> list[str]:
        return [f"--user-data-dir={self.folder.name}", "about:blank"]

    def attach(self) -> None:
        """Speak to the tab that is open."""
        self.session = ""
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __exit__(self, *error: object) -> None:
        self.program.terminate()
        self.program.wait()
        os.close(self.out)
        os.close(self.into)
        self.folder.cleanup()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one command."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.next()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def next(self) -> dict[str, Any]:
        """The next message; events are noted on the way."""
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.buffer:
            ready, _, _ = select.select([self.into], [], [], max(end - time.monotonic(), 0))
            part = os.read(self.into, 2**16) if ready else b""
            if not part:
                raise RuntimeError("chromium does not answer")
            self.buffer += part
        first, self.buffer = self.buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(first)
        self.note(message.get("method", ""), message.get("params", {}))
        return message

    def note(self, method: str, about: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled":
            text = " ".join(str(arg.get("value", "")) for arg in about["args"])
            self.hear(text, about["type"] in ("error", "assert"))
        elif method == "Runtime.exceptionThrown":
            self.hear(str(about["exceptionDetails"]["text"]), True)
        elif method == "Log.entryAdded":
            self.hear(str(about["entry"]["text"]), about["entry"]["level"] == "error")
        elif method == "Network.requestWillBeSent":
            self.requests.append(str(about["request"]["url"]))

    def hear(self, text: str, error: bool) -> None:
        self.said.append(text)
        if error:
            self.errors.append(text)

    def open(self, address: str, *, width: int = 1280, dark: bool = False) -> None:
        """Load a page and wait until it is complete."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        done = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in done:
            raise RuntimeError(done["exceptionDetails"]["text"])
        return done["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until the expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.value(expression):
            if time.monotonic() > end:
                raise RuntimeError(f"not true in time: {expression}")
            time.sleep(0.05)

    def press(self, key: str, code: int) -> None:
        """Press a key, such as ("Tab", 9) or ("ArrowLeft", 37)."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code
            )

    def choose_file(self, selector: str, path: Path) -> None:
        """Give a file to the input that the CSS selector finds first."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        found = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=found)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """A PNG of the page, all of it or what is on the screen."""
        done = self.call("Page.captureScreenshot", captureBeyondViewport=whole, **self.area(whole))
        path.write_bytes(base64.b64decode(done["data"]))

    def area(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {**size, "scale": 1}}
