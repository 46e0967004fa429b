"""Drives a headless Chromium over a pipe, by the DevTools protocol: opens pages, presses keys, reads what they show."""

import base64
import json
import os
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
REASON = "no chromium on PATH, and $CHROMIUM names none"
# --no-sandbox: containers run tests as root
FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe"


def find_chromium():
    """Returns the program, or None: $CHROMIUM, or one of the usual names on PATH."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A tab of the browser; ``requests`` are the addresses that it has asked for, ``errors`` its script's."""

    def __init__(self, commands, answers):
        self._commands, self._answers, self._number = commands, answers, 0
        self._session, self.requests, self.errors, self._loaded = None, [], [], False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        """Calls a method of the protocol and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def _next(self):
        data = bytearray()
        while not data.endswith(b"\0"):
            byte = self._answers.read(1)
            assert byte, "the browser has ended"
            data += byte
        message = json.loads(data[:-1])
        parameters = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        elif message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(parameters["exceptionDetails"])
        elif message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])
        elif message.get("method") == "Page.loadEventFired":
            self._loaded = True
        return message

    def open(self, file, width=1280, height=900, dark=False, density=1):
        """Opens a file, in a window of this size, and waits until it is loaded and drawn."""
        phone = {"width": width, "height": height, "deviceScaleFactor": density, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **phone)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self._loaded = False
        self.call("Page.navigate", url=Path(file).absolute().as_uri())
        while not self._loaded:
            self._next()
        drawn = "Promise.all([...document.images].map(image => image.decode().catch(() => 0)))"
        self.run(f"{drawn}.then(() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 60))))")

    def touch(self, on):
        """Gives the screen a finger in place of the mouse, or takes it back."""
        self.call("Emulation.setTouchEmulationEnabled", enabled=on)

    def run(self, script):
        """Returns the value of an expression of JavaScript."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def press(self, key, shift=False):
        """Presses a key; "ArrowLeft", "Tab", "x"."""
        common = {"key": key, "code": key, "modifiers": 8 if shift else 0}
        common |= {"text": key} if len(key) == 1 else {}
        codes = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}
        common |= {"windowsVirtualKeyCode": codes[key]} if key in codes else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **{k: v for k, v in common.items() if k != "text"})

    def move_mouse(self, x, y, button="none"):
        """Moves the mouse to a position of the window in pixels."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button=button, buttons=int(button == "left"))

    def drag(self, x, y, to_x, to_y):
        """Drags from one position of the window to another."""
        self.move_mouse(x, y)
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
        self.move_mouse(to_x, to_y, "left")
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=to_x, y=to_y, button="left", clickCount=1)

    def screenshot(self, file, whole=True, quality=None):
        """Writes what the page shows as PNG, or JPEG of this quality; with ``whole`` also what is below the window."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 100))))")
        kind = {"format": "png"} if quality is None else {"format": "jpeg", "quality": quality}
        done = self.call("Page.captureScreenshot", captureBeyondViewport=whole, **kind)
        Path(file).write_bytes(base64.b64decode(done["data"]))


@contextmanager
def browser(program, folder):
    """Yields a page of a new browser, whose profile is in the folder."""
    to_browser, commands = os.pipe()
    answers, from_browser = os.pipe()
    # the browser reads from descriptor 3 and writes to 4
    words = [program, *FLAGS.split(), f"--user-data-dir={folder}", "about:blank"]
    shell = ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", *words]
    process = subprocess.Popen(
        shell, pass_fds=(to_browser, from_browser), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(to_browser)
    os.close(from_browser)
    with os.fdopen(commands, "wb") as writer, os.fdopen(answers, "rb") as reader:
        try:
            yield Page(writer, reader)
        finally:
            process.terminate()
            process.wait(20)
