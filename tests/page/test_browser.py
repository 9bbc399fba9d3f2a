"""The page in Debian's Chromium: what people do with it, on a wide screen and on a phone, in the light and in the dark.

axe-core, which looks for what keeps people out, comes with the package axe-playwright-python, and is run in the page
by the driver.
"""

from __future__ import annotations

import json
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

from api.connections import Bounded
from api.main import create_app
from core.ledger import jobs, keys
from core.ledger.database import Database
from core.ledger.settings import Settings
from tests.api.conftest import MODEL, one_database, reviews, write_model
from tests.page.house import House, fill
from tests.reports import report

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
WITHIN_S = 30.0
WIDE, PHONE = (1280, 900), (390, 800)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver here: apt-get install both"),
]
Driver = webdriver.Chrome


@pytest.fixture(scope="module")
def chromium() -> Iterator[Driver]:
    """One browser for all tests of this file."""
    options = Options()
    for flag in FLAGS:
        options.add_argument(flag)
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
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


def pages(ids: dict[str, str]) -> dict[str, str]:
    """Address of one of each kind."""
    return {
        **{name: f"/jobs/{ids[name]}" for name in ("done", "family", "failed", "running", "queued")},
        **{"jobs": "/", "new": f"/new?data={ids['data']}", "data": "/data", "models": "/models", "keys": "/keys"},
        **{"workers": "/workers", "a data set": f"/data/{ids['data']}", "delete": f"/jobs/{ids['done']}/delete"},
        "compare": f"/compare?job={ids['done']}&job={ids['other']}",
        "nothing found": "/?q=nothing",
    }


@one_database
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_every_page_is_for_everybody_and_fits(
    driver: Driver, server: Server, ids: dict[str, str], size: tuple[int, int], dark: bool
) -> None:
    shape(driver, size, dark)
    found = {}
    for name, address in pages(ids).items():
        driver.get(server.address + address)
        width = driver.execute_script("return document.documentElement.scrollWidth")
        paper = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert width <= size[0], (name, width)
        assert (paper == "rgb(20, 24, 31)") is dark, name
        found[name] = violations(driver)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@one_database
def test_the_first_visit(driver: Driver, server: Server) -> None:
    driver.get(server.address)
    shown(driver, "No jobs yet")
    assert violations(driver) == []
    driver.find_element(By.TAG_NAME, "body").send_keys("\ue004")  # Tab
    first = driver.switch_to.active_element
    assert first.text == "Skip to the content" and first.is_displayed()
    press(driver, "New job")
    shown(driver, "Your own texts without labels")


@one_database
def test_from_an_upload_to_a_job(driver: Driver, server: Server, house: House, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_bytes(reviews(60))
    driver.get(f"{server.address}/new")
    driver.find_element(By.ID, "data_file").send_keys(str(tmp_path / "mine.csv"))
    driver.find_element(By.XPATH, "//input[@id='data_file']/following-sibling::button").click()
    shown(driver, "What was understood of mine.csv")
    driver.find_element(By.ID, "title").send_keys("From a browser\t")
    shown(driver, "It learns from")  # the plan comes by itself
    assert json.loads(str(driver.find_element(By.ID, "spec").get_property("value")))["title"] == "From a browser"
    budget = driver.find_element(By.ID, "budget")
    budget.clear()
    budget.send_keys("much\t")
    shown(driver, "is no amount")
    budget.clear()
    budget.send_keys("40%\t")
    shown(driver, "40% of encoder parameters")
    slider = driver.find_element(By.CSS_SELECTOR, "input[type=range]")
    assert slider.get_property("value") == "40"
    press(driver, "Start")
    shown(driver, "From a browser")
    assert "/jobs/job_" in driver.current_url and "queued" in driver.find_element(By.TAG_NAME, "main").text
    assert console(driver) == []


@one_database
def test_a_job_is_followed_to_its_download(
    driver: Driver, server: Server, house: House, tmp_path: Path, database: Database
) -> None:
    job_id = house.queued(house.data(), title="To follow")
    driver.get(f"{server.address}/jobs/{job_id}")
    driver.execute_script("window.same = true")
    shown(driver, "no worker is alive")
    house.run(job_id, "prune")
    shown(driver, "step 8 of 20")
    shown(driver, "20 of 32")  # the structure, as soon as it is fitted
    house.say(job_id, event="stage", stage="recover", control=True)
    shown(driver, "control without transfer")
    house.say(job_id, event="note", message="something to know")
    shown(driver, "something to know")
    assert driver.execute_script("return window.same") is True  # not loaded anew
    house.succeed(job_id, report())
    shown(driver, "What it made")
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    driver.find_element(By.CSS_SELECTOR, "[aria-label='Download model.safetensors']").click()
    wait(lambda: (tmp_path / "model.safetensors").stat().st_size == 4000, "the file does not come")
    frame = driver.find_element(By.CSS_SELECTOR, "iframe")
    driver.execute_script("arguments[0].scrollIntoView()", frame)
    driver.switch_to.frame(frame)
    wait(lambda: "All of it." in driver.page_source, "the report is not shown")
    driver.switch_to.default_content()
    blocked = console(driver)  # the script in the report of this test
    assert all("sandbox" in message for message in blocked)


@one_database
def test_a_restart_of_the_server_loses_and_doubles_no_event(driver: Driver, server: Server, house: House) -> None:
    job_id = house.queued(house.data())
    house.run(job_id, "teach")
    driver.get(f"{server.address}/jobs/{job_id}")
    driver.execute_script("document.getElementById('events').open = true; window.same = true")
    house.say(job_id, event="note", message="before")
    shown(driver, "before")
    server.stop()
    for number in range(5):
        house.say(job_id, event="note", message=f"while away {number}")
    time.sleep(1)
    server.start()
    shown(driver, "while away 4")
    house.say(job_id, event="note", message="afterwards")
    shown(driver, "afterwards")
    rows = driver.find_elements(By.CSS_SELECTOR, "tr[data-seq]")
    seen = [int(str(row.get_attribute("data-seq"))) for row in rows]
    with house.database.read() as session:
        assert seen == [event.seq for event in jobs.events(session, job_id, 0, None)]
    assert driver.execute_script("return window.same") is True
    assert driver.find_element(By.ID, "events").get_property("open") is True
    assert all("ERR_" in message for message in console(driver))  # that nobody answered, the browser says itself


@one_database
def test_a_job_is_cancelled_and_tried_again(driver: Driver, server: Server, ids: dict[str, str]) -> None:
    driver.get(f"{server.address}/jobs/{ids['queued']}")
    press(driver, "Cancel")
    shown(driver, "cancelled")
    press(driver, "Try again")
    shown(driver, "queued")


@one_database
def test_a_job_is_deleted_once_that_is_said_twice(driver: Driver, server: Server, ids: dict[str, str]) -> None:
    driver.get(f"{server.address}/jobs/{ids['cancelled']}")
    press(driver, "Delete…")
    shown(driver, "Delete this job?")
    press(driver, "Delete it")
    shown(driver, "6 jobs on this page")


@one_database
def test_jobs_are_chosen_and_compared(driver: Driver, server: Server, ids: dict[str, str]) -> None:
    driver.get(server.address)
    for name in ("done", "other"):
        driver.find_element(By.CSS_SELECTOR, f"input[value='{ids[name]}']").click()
    press(driver, "Compare the chosen")
    shown(driver, "Settings that differ")
    shown(driver, "paired")


@one_database
def test_the_table_of_jobs_moves_by_itself_and_keeps_what_is_chosen(
    driver: Driver, server: Server, ids: dict[str, str], house: House
) -> None:
    driver.get(server.address)
    driver.find_element(By.CSS_SELECTOR, f"input[value='{ids['done']}']").click()
    driver.execute_script("document.activeElement.blur()")
    house.say(ids["running"], event="stage", stage="measure")
    shown(driver, "Measure")
    assert driver.find_element(By.CSS_SELECTOR, f"input[value='{ids['done']}']").is_selected()


@one_database
def test_without_scripts_links_and_forms_do(driver: Driver, server: Server, ids: dict[str, str]) -> None:
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get(f"{server.address}/new?data={ids['data']}")
        press(driver, "Show the plan")
        shown(driver, "It learns from")
        press(driver, "Start")
        wait(lambda: "/jobs/job_" in driver.current_url, "no job was made")
        press(driver, "Cancel")
        shown(driver, "cancelled")
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@one_database
def test_a_login_and_its_failures(driver: Driver, settings: Settings, database: Database) -> None:
    write_model(settings.models_dir / MODEL)
    ids = fill(House(settings, database))
    with database.begin() as session:
        _, secret = keys.create(session, "tenant_default", "mine", keys.SCOPES)
    with serving(create_app(settings.model_copy(update={"require_keys": True}))) as server:
        driver.get(f"{server.address}/jobs/{ids['running']}")
        assert violations(driver) == []
        for given in ("topwork_wrong", secret):
            driver.find_element(By.ID, "key").send_keys(given)
            press(driver, "Log in")
            if given != secret:
                shown(driver, "unknown, expired or revoked")
                assert violations(driver) == []
                assert all("401" in message for message in console(driver))  # which the browser says itself
        shown(driver, "Live: reviews")
        house = House(settings, database)
        house.say(ids["running"], event="note", message="seen by the cookie's stream")
        shown(driver, "seen by the cookie's stream")
        driver.get(f"{server.address}/jobs/{ids['done']}")
        wait(lambda: driver.find_elements(By.CSS_SELECTOR, "iframe"), "no report")
        driver.get(f"{server.address}/keys")
        shown(driver, "mine")
        assert violations(driver) == []
        press(driver, "Log out")
        shown(driver, "API key")
        driver.get(server.address)
        assert driver.current_url.endswith("/login")
        driver.get("about:blank")
