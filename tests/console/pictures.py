"""The console's pictures in the documentation: a simulated plant, looked at."""

import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from tests.console.browser import DESK, PHONE, Page
from tests.support.process import Server

TENANT = "plant"
#: How long the plant is watched, so that the lines have something to show, seconds.
PATIENT_SECONDS = 36.0


@contextmanager
def plant(server: Server):
    """A simulated plant that publishes while the pictures are taken."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hotpath", "simulate", "--rate", "40", "--seed", "7",
         "--url", server.urls["http"], "--data-dir", str(server.data_dir), "--tenant", TENANT],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def reader(server: Server, text: str):
    """A client of a feed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hotpath", "subscribe", "variables", "--filter", text, "--json",
         "--url", server.urls["http"], "--data-dir", str(server.data_dir), "--tenant", TENANT],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


def take_pictures(page: Page, server: Server, place: Path, *, patient: bool) -> list[Path]:
    """Take all of them; impatiently they show little."""
    token = server.token(tenant=TENANT)
    server.subscribe("value.severity = 'critical'", topic="alarms", token=token)
    server.subscribe("variable = 'pressure' AND value > 4 AND quality = 192", token=token)
    hot = "variable = 'temperature' AND value > 60"
    with plant(server), reader(server, hot):
        page.look(theme="light", size=DESK)
        page.sign_in(token)
        page.shows("Latest messages")
        wait(PATIENT_SECONDS if patient else 0)
        taken = [snap(page, place / "console-topics.png")]
        page.go("#/subscriptions", "Subscriptions")
        page.eventually(lambda: page.all("tbody a.filter"))
        wait(PATIENT_SECONDS if patient else 0)
        taken.append(snap(page, place / "console-subscriptions.png"))
        page.go("#/playground", "Playground")
        type_filter(page, "variable IN ['temperature', 'pressure'] AND value > 5")
        page.eventually(lambda: page.all("ol.messages summary"))
        page.click("#play-follow")
        page.eventually(lambda: open_one(page))
        taken.append(snap(page, place / "console-playground.png"))
        type_filter(page, "variable = 'temperature' AND vlaue > 70")
        page.shows("did you mean value?")
        page.look(theme="dark", size=DESK)
        taken.append(snap(page, place / "console-playground-fault.png"))
        page.go("#/subscriptions", "Subscriptions")
        page.eventually(lambda: page.driver.find_element("link text", hot).click() is None)
        page.heading("Subscription on Variables")
        wait(PATIENT_SECONDS / 3 if patient else 0)
        if patient:
            page.eventually(lambda: page.all("ol.messages summary"))
        taken.append(snap(page, place / "console-subscription.png"))
        page.look(theme="light", size=PHONE)
        page.go("#/topics", "Topics")
        wait(PATIENT_SECONDS / 3 if patient else 0)
        taken.append(snap(page, place / "console-phone.png"))
    return taken


def type_filter(page: Page, text: str) -> None:
    field = page.one("#play-filter")
    field.clear()
    field.send_keys(text)
    page.eventually(lambda: page.one("#play-canonical").text or page.all(".caret"))


def open_one(page: Page) -> bool:
    """Open a message that matches, or any; the list may just be changing."""
    found = page.all("ol.messages summary")
    matching = [each for each in found if "matches" in each.text]
    (matching or found)[0].click()
    return True


def snap(page: Page, path: Path) -> Path:
    page.driver.execute_script("window.scrollTo(0, 0)")
    page.picture(path)
    return path


def wait(seconds: float) -> None:
    """Let the plant go on: the pictures show a course of time."""
    time.sleep(seconds)
