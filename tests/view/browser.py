"""A headless Chromium, and what the tests ask of a page in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900",
)  # fmt: skip
CATCH_DOWNLOADS = """
    window.saved = [];
    const make = URL.createObjectURL;
    URL.createObjectURL = (blob) => { window.saved.push(blob); return make.call(URL, blob); };
    const click = HTMLAnchorElement.prototype.click;
    HTMLAnchorElement.prototype.click = function () { if (!this.download) click.call(this); };
"""


def missing() -> str | None:
    """Why there is no browser to test in, or None."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


class Browser:
    """Pages are opened from disk, as users do."""

    def __init__(self, profile: Path) -> None:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = str(shutil.which("chromium"))
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver: Any = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))

    def open(
        self, page: Path, state: Mapping[str, Any] | None = None, *, width: int = 1280, height: int = 900, **media: str
    ) -> None:
        """state: what the link carries. media: such as prefers_color_scheme="dark"."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get(page.as_uri() + (f"#{quote(json.dumps(state))}" if state else ""))
        self.wait("return document.getElementById('explorer').dataset.ready === 'true'")
        self.driver.execute_script(CATCH_DOWNLOADS)

    def wait(self, condition: str, *given: Any) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 20).until(lambda driver: driver.execute_script(condition, *given), condition)

    def run(self, script: str, *given: Any) -> Any:
        return self.driver.execute_script(script, *given)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def settle(self) -> None:
        """Wait for what the page does a moment after a change: the table, the address."""
        self.run("window.settled = false; setTimeout(() => { window.settled = true; }, 350)")
        self.wait("return window.settled")

    def texts(self, selector: str) -> list[str]:
        self.settle()
        return list(self.run("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector))

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def click(self, selector: str, **event: bool) -> None:
        """A click, once the element is there, with keys held where they are named (shiftKey=True)."""
        self.wait("return document.querySelector(arguments[0]) !== null", selector)
        self.run(
            "document.querySelector(arguments[0]).dispatchEvent("
            "new MouseEvent('click', { bubbles: true, cancelable: true, ...arguments[1] }))", selector, event,
        )

    def press(self, keys: str, selector: str | None = None) -> None:
        target = self.find(selector) if selector else self.driver.switch_to.active_element
        target.send_keys(keys)

    def choose(self, selector: str, value: Any) -> None:
        """Give a control a value, as a user does."""
        self.run(
            "const e = document.querySelector(arguments[0]); e.value = arguments[1];"
            "for (const t of ['input', 'change']) e.dispatchEvent(new Event(t, { bubbles: true }))", selector, value,
        )

    def state(self) -> dict[str, Any]:
        """What the address carries, once it has been written."""
        self.settle()
        found: dict[str, Any] = self.run(
            "return location.hash ? JSON.parse(decodeURIComponent(location.hash.slice(1))) : {}"
        )
        return found

    def saved(self, button: str) -> str:
        """The file that a button makes, as text."""
        self.run("window.saved = []")
        self.click(button)
        self.wait("return window.saved.length > 0")
        script = "const done = arguments[0]; window.saved.at(-1).text().then(done)"
        return str(self.driver.execute_async_script(script))

    def complaints(self) -> list[str]:
        """Errors and warnings that the page has left in the console."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
