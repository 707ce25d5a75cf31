"""A headless Chromium, and what the tests ask of a page in it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMEDRIVER = shutil.which("chromedriver")
WAIT_SECONDS = 20

T = TypeVar("T")

#: Width, height and whether it is touched.
DESK = (1280, 860, False)
PHONE = (360, 740, True)

#: It stays on this machine: whatever is not loopback has no address.
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--lang=en-GB",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)


def missing() -> str | None:
    """Why no page can be looked at here; None when all is there."""
    if CHROMIUM is None or CHROMEDRIVER is None:
        return "no browser: apt-get install chromium chromium-driver"
    if not AXE.exists():
        return "no axe-core: npm ci in tests/console"
    return None


class Page:
    """One browser tab on one service."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    # Getting about

    def look(self, *, theme: str = "light", size: tuple[int, int, bool] = DESK) -> None:
        """Be on a screen of a size, with a preference for light or dark and for little motion."""
        width, height, touched = size
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touched},
        )
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {
                "features": [
                    {"name": "prefers-color-scheme", "value": theme},
                    {"name": "prefers-reduced-motion", "value": "reduce"},
                ]
            },
        )

    def open(self, path: str) -> None:
        self.driver.get(self.url + path)

    def sign_in(self, token: str, *, keep: bool = True) -> None:
        """From nothing to the first view."""
        self.fresh()
        field = self.one("#token")
        field.send_keys(token)
        if not keep:
            self.one("#keep").click()
        self.press("Sign in")
        self.heading("Topics")

    def fresh(self) -> None:
        """Be asked for a token: nothing is left of who was here before."""
        self.open("/docs")
        self.driver.execute_script("sessionStorage.clear(); localStorage.clear()")
        self.open("/console")
        self.heading("Sign in")

    def go(self, path: str, heading: str) -> None:
        """Show another view without loading the page anew."""
        self.driver.execute_script("location.hash = arguments[0]", path)
        self.heading(heading)

    # Looking

    def one(self, selector: str) -> WebElement:
        return self.eventually(lambda: self.driver.find_element(By.CSS_SELECTOR, selector))

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def button(self, name: str) -> WebElement:
        """A button by its words."""
        path = f"//button[normalize-space()='{name}']"
        return self.eventually(lambda: self._shown(By.XPATH, path))

    def press(self, name: str) -> None:
        """Click a button, scrolled to where no bar covers it."""

        self._click(lambda: self.button(name))

    def click(self, selector: str, index: int = 0) -> None:
        """Click what a selector finds, likewise."""
        self._click(lambda: self.all(selector)[index])

    def _click(self, find: Callable[[], WebElement]) -> None:
        def click() -> bool:
            found = find()
            self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
            found.click()
            return True

        self.eventually(click)

    def _shown(self, how: str, what: str) -> WebElement | None:
        found = [each for each in self.driver.find_elements(how, what) if each.is_displayed()]
        return found[0] if found else None

    def heading(self, text: str) -> None:
        """Wait for a view by its heading."""
        self.eventually(lambda: self.one("h1").text == text)

    def shows(self, text: str) -> None:
        """Wait until a text is on the page."""
        self.eventually(lambda: text in self.text(), hint=f"never shown: {text}")

    def text(self) -> str:
        return self.driver.find_element(By.TAG_NAME, "body").text

    def eventually(self, look: Callable[[], T], hint: str = "") -> T:
        """Wait for something that is true."""
        wait = WebDriverWait(
            self.driver, WAIT_SECONDS, 0.05, ignored_exceptions=[WebDriverException, IndexError]
        )
        return wait.until(lambda _: look(), hint)

    # Judging

    def violations(self) -> list[str]:
        """What axe-core finds wrong with the page as it is, each with where."""
        self.driver.execute_script(AXE.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {resultTypes: ['violations']}).then((r) => done(r.violations))"
        )
        return [
            f"{rule['id']}: {rule['help']} at {node['target']}: {node.get('failureSummary')}"
            for rule in found
            for node in rule["nodes"]
        ]

    def complaints(self) -> list[str]:
        """What the browser's console says since the last time: refused by policy, thrown."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] in {"SEVERE", "WARNING"}
        ]

    def overflows(self) -> bool:
        """Whether the page is wider than the screen."""
        return self.driver.execute_script(
            "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
        )

    def picture(self, path: Path) -> None:
        self.driver.save_screenshot(str(path))


@contextmanager
def browser(profile: Path) -> Iterator[webdriver.Chrome]:
    """A browser with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Driver(executable_path=CHROMEDRIVER))
    try:
        yield driver
    finally:
        driver.quit()
