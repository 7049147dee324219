"""A headless Chromium, driven over its DevTools pipe: no package, no port, no network."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
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
    """One tab of Chromium. ``events`` holds the events since the last page was opened."""

    def __init__(self, width=1400, height=1000):
        self.profile = tempfile.mkdtemp(prefix="neuronxa-page-")
        to_child, self._write = os.pipe()
        self._read, from_child = os.pipe()
        self._buffer, self._number, self.events, self.session = b"", 0, [], None
        # Chromium reads from descriptor 3 and writes to 4.
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
            os.killpg(self.process.pid, 9)  # the group that it was started in
            self.process.wait()
        for pipe in (self._read, self._write):
            os.close(pipe)
        shutil.rmtree(self.profile, ignore_errors=True)

    def send(self, method, timeout=60, **params):
        """Call a method of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        raw = json.dumps(message).encode() + b"\0"
        while raw:
            raw = raw[os.write(self._write, raw) :]
        until = time.monotonic() + timeout
        while True:
            answer = self._next(until)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def _next(self, until):
        while b"\0" not in self._buffer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._read], [], [], left)[0]:
                raise TimeoutError("the browser did not answer in time")
            chunk = os.read(self._read, 2**20)
            if not chunk:
                raise RuntimeError("the browser has ended")
            self._buffer += chunk
        raw, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(raw)

    def resize(self, width, height, scale=1, mobile=False):
        """Set the size of the page area in CSS pixels."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=mobile,
        )

    def prefer(self, scheme):
        """Set the preference of the system: "dark" or "light"."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", features=features)

    def open(self, path, ready="document.documentElement?.dataset.drawnPanels !== undefined"):
        """Go to a file and wait until an expression is true; default: the page is drawn."""
        self.events.clear()
        self.send("Page.navigate", url=Path(path).resolve().as_uri())
        self.wait(ready)

    def forget(self):
        """Clear the local storage of files."""
        self.send("Storage.clearDataForOrigin", origin="file://", storageTypes="local_storage")

    def value(self, expression):
        """The value of a JavaScript expression or promise, as plain Python values."""
        result = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"]["description"])
        return result["result"].get("value")

    def wait(self, expression, timeout=120):
        """Wait until an expression is true."""
        until = time.monotonic() + timeout
        while not self.value(f"Promise.resolve({expression}).then(Boolean)"):
            if time.monotonic() > until:
                raise TimeoutError(f"never true: {expression}; console: {self.complaints()}")
            time.sleep(0.02)

    def press(self, key, code=None, number=0, text=""):
        """Press a key in the focused element."""
        common = {"key": key, "code": code or key, "windowsVirtualKeyCode": number}
        down = {"text": text} if text else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", **common, **down)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def click(self, selector):
        """Click on the middle of an element."""
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
        """Save a screenshot of the visible part or of the whole page."""
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(shot["data"]))

    def _events(self, method):
        return [event["params"] for event in self.events if event.get("method") == method]

    def complaints(self):
        """Errors and warnings of the console, and uncaught exceptions."""
        self.value("0")  # so that all earlier events are read
        thrown = [event["exceptionDetails"] for event in self._events("Runtime.exceptionThrown")]
        printed = [
            [arg.get("value", arg.get("description")) for arg in event["args"]]
            for event in self._events("Runtime.consoleAPICalled")
            if event["type"] in ("error", "warning", "assert")
        ]
        logged = [
            event["entry"]["text"]
            for event in self._events("Log.entryAdded")
            if event["entry"]["level"] in ("error", "warning")
        ]
        return [*(error.get("exception", error) for error in thrown), *printed, *logged]

    def requests(self):
        """The addresses that the page requested, without the file itself."""
        self.value("0")
        urls = [event["request"]["url"] for event in self._events("Network.requestWillBeSent")]
        return [url for url in urls if not url.startswith(("file:", "data:", "blob:"))]
