"""The page in Debian's Chromium: what people do with it, on a wide screen and on a phone, in the light and in the dark.

axe-core, which looks for what keeps people out, comes with the package axe-playwright-python, and is run in the page
by the driver.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from selenium.webdriver.common.by import By

from api.main import create_app
from core.ledger import keys
from core.ledger.database import Database
from core.ledger.jobs import queries
from core.ledger.settings import Settings
from tests.api.conftest import MODEL, one_database, reviews, write_model
from tests.conftest import Broker
from tests.page import pictures
from tests.page.chromium import (
    CHROMIUM,
    DRIVER,
    PHONE,
    WIDE,
    Driver,
    Server,
    console,
    press,
    serving,
    shape,
    shown,
    violations,
    wait,
)
from tests.page.house import House, fill
from tests.reports import report
from worker import relay

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no chromium or chromedriver here: apt-get install chromium chromium-driver"
    ),
]


TABS = 8  # more than the connections that a browser holds to one server


def pages(ids: dict[str, str]) -> dict[str, str]:
    """Address of one of each kind."""
    return {
        **{name: f"/jobs/{ids[name]}" for name in ("done", "family", "failed", "running", "queued")},
        **{"jobs": "/", "new": f"/new?data={ids['data']}", "data": "/data", "models": "/models", "keys": "/keys"},
        **{"workers": "/workers", "a data set": f"/data/{ids['data']}", "delete": f"/jobs/{ids['done']}/delete"},
        "compare": f"/compare?job={ids['done']}&job={ids['other']}",
        "nothing found": "/?q=nothing",
    }


def seen(driver: Driver) -> list[int]:
    """Numbers of the events that stand on the page of a job."""
    rows = driver.find_elements(By.CSS_SELECTOR, "tr[data-seq]")
    return [int(str(row.get_attribute("data-seq"))) for row in rows]


def happened(house: House, job_id: str) -> list[int]:
    """Those of the ledger."""
    with house.database.read() as session:
        return [event.seq for event in queries.events(session, job_id, 0, None)]


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
    house.succeed(job_id, report(), {"report.html": b"<p>All of it.</p><script>alert(1)</script>"})
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
    assert blocked and all("sandbox" in message for message in blocked)


@one_database
def test_a_report_in_its_frame_leads_to_those_of_its_sizes(
    driver: Driver, settings: Settings, database: Database
) -> None:
    write_model(settings.models_dir / MODEL)
    ids = fill(House(settings, database))
    with database.begin() as session:
        _, secret = keys.create(session, "tenant_default", "mine", keys.SCOPES)
    with serving(create_app(settings.model_copy(update={"require_keys": True}))) as server:
        driver.get(f"{server.address}/jobs/{ids['family']}")
        driver.find_element(By.ID, "key").send_keys(secret)
        press(driver, "Log in")
        frame = wait(lambda: driver.find_element(By.CSS_SELECTOR, "iframe"), "no report")
        driver.execute_script("arguments[0].scrollIntoView()", frame)
        driver.switch_to.frame(frame)
        wait(lambda: driver.find_element(By.LINK_TEXT, "params-0.4"), "the report is not shown").click()
        wait(lambda: "small" in driver.find_element(By.TAG_NAME, "body").text, "the link leads nowhere")
        driver.switch_to.default_content()
        driver.get(f"{server.address}/jobs/{ids['family']}/report.html")
        press(driver, "params-0.4")
        wait(lambda: "small" in driver.find_element(By.TAG_NAME, "body").text, "alone, the link leads nowhere")
        driver.get("about:blank")


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
    assert seen(driver) == happened(house, job_id)
    assert driver.execute_script("return window.same") is True
    assert driver.find_element(By.ID, "events").get_property("open") is True
    assert all("ERR_" in message for message in console(driver))  # that nobody answered, the browser says itself


@one_database
def test_a_restart_of_the_broker_loses_and_doubles_no_event(
    driver: Driver, server: Server, house: House, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay.app.conf, "broker_url", broker.url)
    carrier, stop = relay.Relay(house.database, house.settings, remind_after_s=0.1), threading.Event()

    def carry() -> None:
        while not stop.wait(0.1):
            carrier.step()

    thread = threading.Thread(target=carry)
    thread.start()
    try:
        job_id = house.queued(house.data())
        driver.get(f"{server.address}/jobs/{job_id}")
        driver.execute_script("document.getElementById('events').open = true; window.same = true")
        wait(lambda: broker.client.llen("topwork"), "the job is not announced")
        broker.stop()  # and what it held is lost
        house.worker()
        shown(driver, "queued")
        broker.start()
        wait(lambda: broker.client.llen("topwork"), "the job is not announced again")
        house.run(job_id, "teach")
        shown(driver, "step 16 of 40")
        broker.stop()
        for number in range(5):
            house.say(job_id, event="note", message=f"while away {number}")
        shown(driver, "while away 4")
        broker.start()
        house.say(job_id, event="note", message="afterwards")
        shown(driver, "afterwards")
        assert seen(driver) == happened(house, job_id)
        assert driver.execute_script("return window.same") is True
    finally:
        stop.set()
        thread.join()


@one_database
def test_on_paper_a_table_stays_one_and_nothing_is_left_to_press(
    driver: Driver, server: Server, ids: dict[str, str]
) -> None:
    shape(driver, (690, 980))  # of A4 less its margins
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    for name, address in {"jobs": "/", "done": f"/jobs/{ids['done']}", "family": f"/jobs/{ids['family']}"}.items():
        driver.get(server.address + address)
        found = driver.find_elements(By.CSS_SELECTOR, "button, .button, input, iframe")
        assert [one for one in found if one.is_displayed()] == [], name
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 690, name
        for table in driver.find_elements(By.CSS_SELECTOR, "main table"):
            heads = [one for one in table.find_elements(By.CSS_SELECTOR, "thead th") if one.is_displayed()]
            row = table.find_element(By.CSS_SELECTOR, "tbody tr").find_elements(By.CSS_SELECTOR, "th, td")
            cells = [one for one in row if one.is_displayed()]
            assert [one.location["x"] for one in heads] == [one.location["x"] for one in cells], name


@one_database
def test_more_tabs_than_a_browser_has_connections_are_all_live(driver: Driver, server: Server, house: House) -> None:
    job_id = house.queued(house.data())
    house.run(job_id, "teach")
    first, tabs = driver.current_window_handle, list[str]()
    try:
        for number in range(TABS):
            if number:
                driver.switch_to.new_window("tab")
            tabs.append(driver.current_window_handle)
            driver.get(f"{server.address}/jobs/{job_id}")
            house.say(job_id, event="note", message=f"to tab {number}")
            shown(driver, f"to tab {number}")
        for tab in tabs:
            driver.switch_to.window(tab)
            driver.execute_cdp_cmd("Page.bringToFront", {})
            shown(driver, f"to tab {TABS - 1}")  # which came while nobody saw this one
            house.say(job_id, event="note", message=f"afterwards to {tab}")
            shown(driver, f"afterwards to {tab}")
            open_streams = len(server.server.server_state.tasks)
            assert open_streams <= 2, open_streams  # that of the tab before may not have been missed yet
    finally:
        for tab in tabs[1:]:
            driver.switch_to.window(tab)
            driver.close()
        driver.switch_to.window(first)


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
    shown(driver, "B less A")


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
def test_the_pictures_of_readme_can_be_drawn(
    server: Server, ids: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "TARGET", tmp_path)
    monkeypatch.setattr("sys.argv", ["pictures", "--server", server.address])
    pictures.main()
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    for path in tmp_path.glob("*.png"):
        with Image.open(path) as drawn:
            assert drawn.size == pictures.SIZE and len(set(drawn.convert("L").getdata())) > 20, path.name
        assert f"docs/images/{path.name}" in readme
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["page.png", "report.png"]


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
