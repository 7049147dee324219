"""A headless Chromium, driven over its DevTools pipe: no package, no port, no network."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--mute-audio",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find():
    """The path of a Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab. ``events`` holds everything that it has told and that nobody has taken."""

    def __init__(self, width=1400, height=1000):
        self.profile = tempfile.mkdtemp(prefix="neuronxa-page-")
        to_child, self._write = os.pipe()
        self._read, from_child = os.pipe()
        self._buffer, self._number, self.events, self.session = b"", 0, [], None
        # The child reads from 3 and writes to 4; copies above keep the two from crossing.
        pipes = f'exec 3<&{to_child} 4>&{from_child}; exec "$0" "$@"'
        arguments = [find(), *FLAGS, f"--user-data-dir={self.profile}", "about:blank"]
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", pipes, *arguments],
            pass_fds=(to_child, from_child),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_child)
        os.close(from_child)
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.resize(width, height)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.session = None
            self.send("Browser.close", timeout=5)
            self.process.wait(5)
        except (OSError, TimeoutError, RuntimeError, subprocess.TimeoutExpired):
            os.killpg(self.process.pid, 9)  # its own group, which it was started in
            self.process.wait()
        for pipe in (self._read, self._write):
            os.close(pipe)
        shutil.rmtree(self.profile, ignore_errors=True)

    def send(self, method, timeout=60, **params):
        """Call a method of the protocol and wait for what it returns."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        raw = json.dumps(message).encode() + b"\0"
        while raw:
            raw = raw[os.write(self._write, raw) :]
        until = time.monotonic() + timeout
        while True:
            told = self._next(until)
            if told.get("id") == self._number:
                if "error" in told:
                    raise RuntimeError(f"{method}: {told['error']['message']}")
                return told["result"]
            self.events.append(told)

    def _next(self, until):
        while b"\0" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._read], [], [], left)[0]:
                raise TimeoutError("the browser did not answer in time")
            chunk = os.read(self._read, 2**20)
            if not chunk:
                raise RuntimeError("the browser has gone")
            self._buffer += chunk
        raw, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(raw)

    def resize(self, width, height, scale=1, mobile=False):
        """The size of the window's inside, in CSS pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=mobile,
        )

    def prefer(self, scheme):
        """Dark or light, as an operating system asks for."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def open(self, path, ready="document.documentElement?.dataset.drawnMs"):
        """Go to a file and wait until it says that it is drawn."""
        self.events.clear()
        self.send("Page.navigate", url=Path(path).resolve().as_uri())
        self.wait(ready)

    @contextmanager
    def unwatched(self):
        """Open pages as readers do: who listens to the console slows scripts down.

        V8 then works out for each call where in the source it stands, which takes plotly's
        large file 0.4 s. What was said meanwhile is told afterwards.
        """
        self.send("Runtime.disable")
        try:
            yield
        finally:
            self.send("Runtime.enable")

    def forget(self):
        """Forget what files have kept in this browser."""
        self.send("Storage.clearDataForOrigin", origin="file://", storageTypes="local_storage")

    def value(self, expression):
        """What a JavaScript expression (or promise) comes to, as plain values."""
        found = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    def wait(self, expression, timeout=30):
        """Wait until an expression is true."""
        until = time.monotonic() + timeout
        while not self.value(f"Promise.resolve({expression}).then(Boolean)"):
            if time.monotonic() > until:
                raise TimeoutError(f"never true: {expression}; complaints: {self.complaints()}")
            time.sleep(0.02)

    def press(self, key, code=None, number=0, text=""):
        """Press a key where the focus is."""
        common = {"key": key, "code": code or key, "windowsVirtualKeyCode": number}
        down = {"text": text} if text else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **common, **down)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def click(self, selector):
        """Click with the mouse on the middle of an element."""
        at = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send(
                "Input.dispatchMouseEvent",
                type=kind,
                x=at[0],
                y=at[1],
                button="left",
                clickCount=1,
            )

    def shoot(self, path, whole=False):
        """A picture of what is seen, or of the whole page."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def _told(self, method):
        return [told["params"] for told in self.events if told.get("method") == method]

    def complaints(self):
        """Errors and warnings of the console, and exceptions nobody caught."""
        self.value("0")  # what was told before this was answered is read
        thrown = [each["exceptionDetails"] for each in self._told("Runtime.exceptionThrown")]
        said = [
            [arg.get("value", arg.get("description")) for arg in each["args"]]
            for each in self._told("Runtime.consoleAPICalled")
            if each["type"] in ("error", "warning", "assert")
        ]
        logged = [
            each["entry"]["text"]
            for each in self._told("Log.entryAdded")
            if each["entry"]["level"] in ("error", "warning")
        ]
        return [*(each.get("exception", each) for each in thrown), *said, *logged]

    def requests(self):
        """Addresses that were asked for, the file itself not among them."""
        self.value("0")
        found = [each["request"]["url"] for each in self._told("Network.requestWillBeSent")]
        return [url for url in found if not url.startswith(("file:", "data:", "blob:"))]
