"""Debian's Chromium by its own driver, and a server for it that may be stopped and started."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from api.http.connections import Bounded

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
WITHIN_S = 30.0
WIDE, PHONE = (1280, 900), (390, 800)

Driver = webdriver.Chrome


def start_chromium() -> Driver:
    """A browser without a window."""
    options = Options()
    for flag in FLAGS:
        options.add_argument(flag)
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(str(DRIVER)))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Driver]:
    """One browser for all tests of this file."""
    driver = start_chromium()
    yield driver
    driver.quit()


@pytest.fixture
def driver(chromium: Driver) -> Iterator[Driver]:
    """The browser as new, wide and light; the console has to stay empty."""
    chromium.execute_cdp_cmd("Network.clearBrowserCookies", {})
    shape(chromium, WIDE)
    chromium.get_log("browser")
    yield chromium
    assert console(chromium) == []


def shape(driver: Driver, size: tuple[int, int], dark: bool = False) -> None:
    """Another screen."""
    width, height = size
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})


def console(driver: Driver) -> list[str]:
    """The errors in it since it was last read."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def wait(until: Callable[[], Any], what: str) -> Any:
    """What it gives, once it is something."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            if found := until():
                return found
        except Exception:  # of a page that is just being drawn
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def shown(driver: Driver, text: str) -> None:
    """Wait until somebody can read it."""
    wait(lambda: text in driver.find_element(By.TAG_NAME, "main").text, f"'{text}' is not there")


def press(driver: Driver, name: str) -> None:
    """The first button or link of that name."""
    found = f"//button[normalize-space()='{name}'] | //a[normalize-space()='{name}']"
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", driver.find_element(By.XPATH, found))
    driver.find_element(By.XPATH, found).click()


def violations(driver: Driver) -> list[str]:
    """What axe finds wrong, at which elements."""
    spec = find_spec("axe_playwright_python")
    assert spec is not None and spec.origin is not None
    driver.execute_script((Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
    run = "axe.run({iframes: false}).then((found) => arguments[0]([found.violations, found.passes.length]))"
    found, passed = driver.execute_async_script(run)
    assert passed > 15  # it has looked
    return [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in found for node in one["nodes"]]


class Server:
    """The application behind a real server, which may be stopped and started on the same port."""

    def __init__(self, app: Any) -> None:
        self.app = app
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.address = f"http://localhost:{self.port}"

    def start(self) -> None:
        """Returns once it answers."""
        config = uvicorn.Config(
            self.app, port=self.port, http=Bounded, log_level="critical", lifespan="off", timeout_graceful_shutdown=1
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        wait(lambda: self.server.started, "the server does not start")

    def stop(self) -> None:
        """Hang up on everybody."""
        self.server.should_exit = self.server.force_exit = True
        self.thread.join(60)


@contextmanager
def serving(app: Any) -> Iterator[Server]:
    server = Server(app)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(browser: TestClient, chromium: Driver) -> Iterator[Server]:
    """Without keys."""
    with serving(browser.app) as server:
        yield server
        chromium.get("about:blank")  # its streams end before their server does
