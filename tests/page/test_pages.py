"""Every page without a browser: what it says, where it leads, what it refuses."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from api.page import stream
from api.page.jobs import words_of
from core.ledger import keys
from core.ledger.database import Database
from core.ledger.jobs import attempts, queries
from core.ledger.tables import Dataset, Job
from tests.api.conftest import MODEL, one_database, reviews
from tests.page.conftest import Send
from tests.page.house import LATENCY, House
from tests.reports import family, report

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"


class Outline(HTMLParser):
    """What a page loads and where it leads; raises for what may not be in any."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        assert "style" not in given and not [name for name in given if name.startswith("on")], (tag, given)
        assert tag != "style" and (tag != "script" or "src" in given), tag
        if tag in ("script", "img", "iframe"):
            self.loaded.append(given.get("src", ""))
        elif tag == "link":
            self.loaded.append(given["href"])
        elif tag == "a":
            self.links.append(given["href"])


def read(browser: TestClient, address: str) -> str:
    """A page that is there, with what holds for all of them."""
    answer = browser.get(address)
    assert answer.status_code == 200, (address, answer.text[:1000])
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy and "unsafe" not in policy
    assert all(part in policy for part in ("frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"))
    assert answer.headers["x-content-type-options"] == "nosniff" and "no-store" in answer.headers["cache-control"]
    outline = Outline(answer.text)
    assert all(one.startswith(("/", "data:image/")) and not one.startswith("//") for one in outline.loaded)
    return answer.text


def addresses(ids: dict[str, str]) -> list[str]:
    """Of every page."""
    of_jobs = [f"/jobs/{ids[name]}" for name in ("done", "family", "failed", "cancelled", "running", "queued")]
    return [
        *("/", "/new", "/data", "/models", "/workers", "/keys", "/compare", "/?q=reviews&sort=quality&page=1"),
        *of_jobs,
        *(f"{of_jobs[0]}/{part}" for part in ("live", "actions", "delete")),
        f"/data/{ids['data']}",
        f"/data/{ids['data']}/delete",
        f"/new?like={ids['other']}",
        f"/new?data={ids['data']}&unlabelled={ids['own']}",
        f"/compare?job={ids['done']}&job={ids['other']}&job={ids['running']}",
        "/jobs.part",
        "/workers.part",
    ]


def test_every_page_is_there_and_leads_to_others_that_are(browser: TestClient, ids: dict[str, str]) -> None:
    links = {link for address in addresses(ids) for link in Outline(read(browser, address)).links}
    assert len(links) > 40
    for link in links - {"#main"}:
        assert browser.get(link).status_code == 200, link


@one_database
def test_the_first_visit_says_what_to_do(browser: TestClient) -> None:
    page = read(browser, "/")
    assert "No jobs yet" in page and page.count("topwork ") >= 3
    assert "Run the demo" not in page


@one_database
def test_the_demos_data_is_one_button(browser: TestClient, house: House, send: Send) -> None:
    folder = house.settings.data_dir / "demo"
    folder.mkdir(parents=True)
    (house.settings.models_dir / MODEL).rename(house.settings.models_dir / "all-minilm-l6-v2")
    for i, name in enumerate(("products.csv", "movies.csv")):
        (folder / name).write_bytes(reviews(400, first=1000 * i))
    own = house.data("products.csv")
    assert "Run the demo" in read(browser, "/")
    answer = send("/demo", "/")
    asked = browser.get(f"/v1{answer.headers['location']}").json()["spec"]["task"]["data"]["dataset"]
    assert asked != own  # a file of somebody's own that is called alike is not the demo's
    assert answer.status_code == 303 and "movie reviews as the source" in read(browser, answer.headers["location"])
    assert send("/demo", "/new").status_code == 303
    assert browser.get("/v1/datasets").json()["items"].__len__() == 3  # read once


def test_jobs_are_found(browser: TestClient, ids: dict[str, str], house: House) -> None:
    def found(query: str) -> list[str]:
        page = read(browser, f"/{query}")
        return [name for name, job_id in ids.items() if f'value="{job_id}"' in page]

    everything = {"done", "other", "family", "failed", "cancelled", "running", "queued"}
    assert {*found("")} == everything
    assert found("?status=failed") == ["failed"] and {*found("?status=nonsense")} == everything
    assert {*found("?label=team:search")} == {"done", "other"} and found("?label=team:other") == []
    assert found("?q=Third") == ["done"] and {*found("?q=MOVIE")} == {"other"} and found("?q=100%25") == []
    assert {*found("?q=reviews+third&label=team:search&status=succeeded&sort=took")} == {"done"}
    assert found('?label="team:search"') == found("?label=team:search") and {*found('?label="')} == everything
    for word in ("übersicht", "ÜBER", "отзывы", "ОТЗ"):
        assert found(f"?q={word}") == ["other"], word
    assert found("?q=%00") == found("") and words_of("'city:New York' team:x") == ["city:New York", "team:x"]
    for sort in ("oldest", "model", "took", "quality", "ms", "nonsense"):
        assert {*found(f"?sort={sort}")} == everything, sort
    order = re.findall(r'value="(job_\w+)"', read(browser, "/?sort=quality"))
    assert order[:2] == [ids["other"], ids["done"]]
    assert found("?page=2") == [] and {*found("?page=x")} == everything


def test_columns_are_chosen_in_the_address(browser: TestClient, ids: dict[str, str]) -> None:
    whole, part = read(browser, "/"), read(browser, "/?column=budget&column=curve&column=nonsense&sort=model")
    for heading in ("Model and data", "Took", "Quality: dense → pruned"):
        assert f">{heading}</th>" in whole and f">{heading}</th>" not in part
    assert ">Curve</th>" in part and 'data-name="Took"' not in part
    assert "/?column=budget&amp;column=curve" in part or "sort=model&amp;column=budget&amp;column=curve" in part
    assert "column=" not in whole.partition("<form")[0]  # links of all columns name none


def test_a_table_of_many_jobs_has_pages(browser: TestClient, house: House) -> None:
    data = house.data()
    made = [house.queued(data, title=f"number {i}") for i in range(30)]
    first, second = read(browser, "/"), read(browser, "/?page=2")
    assert first.count('name="job"') == 25 and second.count('name="job"') == 5
    assert "/?page=2" in first and made[0] in second and "queued <b>30</b>" in first


def test_a_job_that_runs_is_told_live(browser: TestClient, ids: dict[str, str], house: House) -> None:
    page = read(browser, f"/jobs/{ids['running']}")
    for said in ("Recover, it trains what is left", "step 28 of 60", "1 of 3", "3 of 60 rows are left out", "to come"):
        assert said in page, said
    assert "20 of 32" in page and f"/v1/jobs/{ids['running']}/events" in page
    assert 'http-equiv="refresh"' in page and "<polyline" in page
    house.say(ids["running"], event="stage", stage="teach", control=True)
    assert "control without transfer" in read(browser, f"/jobs/{ids['running']}/live")
    assert "no GPU worker is alive" in read(browser, f"/jobs/{ids['queued']}")


def test_sizes_are_shown_as_soon_as_they_are_trained(browser: TestClient, house: House) -> None:
    job_id = house.queued(house.data(), budgets=[{"params": 0.4}, {"params": 0.2}, {"params": 0.1}])
    house.run(job_id, "recover")
    assert "Sizes so far" not in read(browser, f"/jobs/{job_id}")
    house.trained(job_id, "params-0.4", 0.7, 30_000_000)
    house.trained(job_id, "params-0.4", 0.88, 30_000_000)  # of a later attempt
    house.trained(job_id, "params-0.2", 0.84, 20_000_000)
    house.say(job_id, event="size", size="params-0.1")  # of a version that says less
    page = read(browser, f"/jobs/{job_id}")
    sofar = page[page.index("Sizes so far") : page.index("<h2>Curves")]
    assert "88.0%" in sofar and "84.0%" in sofar and "70.0%" not in sofar and "-2.0" in sofar
    assert re.search(r"params-0.1</th><td[^>]*>to come", sofar) and "accuracy on the dev rows against size" in sofar
    assert sofar.count("<circle") == 3
    house.succeed(job_id, family())
    ended = read(browser, f"/jobs/{job_id}")
    assert "Sizes so far" not in ended and "accuracy on the test rows against size" in ended


def test_what_was_measured_is_told_in_words(browser: TestClient, house: House) -> None:
    job_id = house.queued(house.data(), probe=True)
    house.run(job_id, "data")
    house.say(job_id, event="latency", model="x", latency=LATENCY)
    house.say(job_id, event="latency", model="x", latency={"of": "another version"})
    page = read(browser, f"/jobs/{job_id}")
    assert page.count("Measured: this model takes 0.31 to 13.4 ms (at most 43.2 times as fast as dense)") == 1
    house.succeed(job_id, {"latency": [LATENCY], "timings_s": {}, "environment": report()["environment"]})
    page = read(browser, f"/jobs/{job_id}")
    assert "What it takes here" in page and f"/jobs/{job_id}/report.html" in page


def test_a_job_that_failed_says_why_each_attempt_ended(browser: TestClient, ids: dict[str, str]) -> None:
    page = read(browser, f"/jobs/{ids['failed']}")
    assert "no memory was left" in page and "/budget/latency_ms" in page and "2 of 3" in page
    assert "Try again" in page and 'http-equiv="refresh"' not in page


def test_a_job_that_succeeded_has_its_files_and_its_report(browser: TestClient, ids: dict[str, str]) -> None:
    page = read(browser, f"/jobs/{ids['done']}")
    assert "81.9%" in page and "100 test rows tell" in page and "AutoModelForSequenceClassification" in page
    files = browser.get(f"/v1/jobs/{ids['done']}/files").json()["items"]
    assert all(file["sha256"] in page and file["href"] in page for file in files)
    assert f'src="/jobs/{ids["done"]}/report.html" title="Report" sandbox="allow-same-origin"' in page
    report = browser.get(f"/jobs/{ids['done']}/report.html")
    policy = report.headers["content-security-policy"]
    assert "The report" in report.text and "default-src 'none'" in policy and "form-action 'none'" in policy
    assert policy.endswith("; sandbox allow-same-origin") and "script" not in policy
    assert browser.get(f"/jobs/{ids['family']}/params-0.4/report.html").text == "<p>small"
    assert browser.get(f"/jobs/{ids['family']}/..%2Fx/report.html").status_code == 404


def test_a_job_is_copied_as_it_was_asked(browser: TestClient, ids: dict[str, str]) -> None:
    page = read(browser, f"/jobs/{ids['other']}")
    assert "curl http://localhost/v1/jobs" in page and "topwork submit spec.json --watch" in page
    assert "topwork.Client(" in page


def test_cancel_retry_and_delete(browser: TestClient, ids: dict[str, str], send: Send, database: Database) -> None:
    def status(name: str) -> str:
        with database.read() as session:
            return session.get_one(Job, ids[name]).status

    for name, action, after in (("queued", "cancel", "cancelled"), ("running", "cancel", "cancelling"),
                                ("cancelled", "retry", "queued")):  # fmt: skip
        page = f"/jobs/{ids[name]}"
        answer = send(f"{page}/{action}", page)
        assert (answer.status_code, answer.headers["location"], status(name)) == (303, page, after)
    page = f"/jobs/{ids['done']}"
    again = send(f"{page}/cancel", "/new")
    assert again.status_code == 409 and "already succeeded" in again.text and "<h1>Conflict" in again.text
    assert send(f"{page}/delete", f"{page}/delete").headers["location"] == "/"
    gone = browser.get(page)
    assert gone.status_code == 404 and "There is no such job" in gone.text and "<!doctype html>" in gone.text


def test_two_jobs_are_compared(browser: TestClient, ids: dict[str, str]) -> None:
    page = read(browser, f"/compare?job={ids['done']}&job={ids['other']}")
    assert "budget.params" in page and "movie reviews.csv" in page and "<code>model</code>" not in page
    assert '<th scope="row">B less A' in page and ">macro F1</th>" in page and "not told apart" in page
    assert "accuracy against bytes on disk" in page
    assert page.index("Recover: accuracy on dev") < page.index("Recover: loss on dev")
    others = read(browser, f"/compare?job={ids['done']}&job={ids['running']}&job={ids['other']}")
    assert "A and B are not paired: they have not both been measured" in others and "C less A" in others
    assert browser.get(f"/compare?job={ids['done']}&job=job_x").status_code == 404
    many = browser.get("/compare?" + "&".join(f"job={ids['done']}" for _ in range(7)))
    assert many.status_code == 422 and "<code>job</code>: " in many.text
    assert "Choose two" in read(browser, f"/compare?job={ids['done']}")


@one_database
@pytest.mark.parametrize(("metric", "title", "tick"), [("r2", "R²", "0.8"), ("accuracy", "accuracy", "80%")])
def test_curves_of_jobs_are_in_the_unit_of_their_metric(
    browser: TestClient, house: House, metric: str, title: str, tick: str
) -> None:
    task = {"data": {"dataset": house.data()}, "metric": metric}
    jobs = [house.queued("", task=task | ({"problem_type": "regression"} if metric == "r2" else {})) for _ in "ab"]
    for one in jobs:
        attempt = house.run(one, "data")
        house.say(one, attempt, event="stage", stage="recover")
        for step, quality in ((10, 0.8), (20, 0.9)):
            progress = {"step": step, "steps": 20, "dev": {metric: quality, "loss": 1 - quality}}
            house.say(one, attempt, event="progress", stage="recover", overall=0.5, eta_s=9.0, **progress)
    page = read(browser, f"/compare?job={jobs[0]}&job={jobs[1]}")
    chart = page[page.index(f"Recover: {title} on dev") :].partition("</svg>")[0]
    assert f">{tick}<" in chart, chart


def test_data_is_brought_looked_at_and_deleted(browser: TestClient, ids: dict[str, str], send: Send) -> None:
    made = send("/data", "/data", files={"file": ("more.csv", reviews(9))})
    assert made.status_code == 303
    page = read(browser, made.headers["location"])
    assert "more.csv" in page and "review 3 loud" in page and "names the columns" in page
    for content, said in ((b"", "empty"), (b"\x00\x01\x02", "")):
        refused = send("/data", "/data", files={"file": ("bad.csv", content)})
        assert refused.status_code == 422 and 'role="alert"' in refused.text and said in refused.text
    assert send("/data", "/data").status_code == 422
    odd = send("/data", "/data", {"delimiter": ";;"}, files={"file": ("a.csv", reviews(9))})
    assert odd.status_code == 422 and "/delimiter" in odd.text
    assert send(f"{made.headers['location']}/delete", f"{made.headers['location']}/delete").status_code == 303
    assert browser.get(made.headers["location"]).status_code == 404
    busy = send(f"/data/{ids['data']}/delete", "/new")
    assert busy.status_code == 409 and "uses it" in busy.text


def test_keys_are_made_shown_once_and_revoked(browser: TestClient, house: House, send: Send) -> None:
    made = send("/keys", "/keys", {"name": "nightly", "scopes": ["read", "write"], "expires_in_days": "3"})
    secret = re.search(r"topwork_[\w-]{20,}", made.text)
    assert made.status_code == 200 and secret is not None and "no-store" in made.headers["cache-control"]
    page = read(browser, "/keys")
    assert secret[0] not in page and "nightly" in page
    [key] = browser.get("/v1/keys").json()["items"]
    assert send(f"/keys/{key['id']}/revoke", "/keys").status_code == 303 and "revoked" in read(browser, "/keys")
    refused = send("/keys", "/keys", {"name": "x", "scopes": ["read"], "expires_in_days": "soon"})
    assert refused.status_code == 422 and "/expires_in_days" in refused.text
    refused = send("/keys", "/keys", {"name": "x", "scopes": ["read"], "expires_in_days": "9" * 5000})
    assert refused.status_code == 422 and "less than or equal to 3650" in refused.text


def test_names_of_others_are_text_everywhere(
    browser: TestClient, ids: dict[str, str], house: House, database: Database
) -> None:
    with database.begin() as session:
        session.execute(update(Dataset).values(name=HOSTILE))
        for job in session.query(Job):
            job.spec = job.spec | {"title": HOSTILE[:100], "model": HOSTILE, "labels": {"team": HOSTILE}}
    house.say(ids["running"], event="note", message=HOSTILE)
    house.worker(HOSTILE)
    for address in addresses(ids):
        page = browser.get(address)
        assert page.status_code == 200, address
        assert "<script>alert" not in page.text and "<img src=x" not in page.text, address
        Outline(page.text)


def test_what_a_newer_version_wrote_breaks_no_page(
    browser: TestClient, ids: dict[str, str], database: Database
) -> None:
    with database.begin() as session:
        session.execute(update(Job).values(spec={"labels": {}, "task": {"new": 1}}, metrics={"what": 1}))
        queries.events(session, ids["running"], 0, None)
    for address in ("/", f"/jobs/{ids['done']}", f"/jobs/{ids['running']}", f"/new?like={ids['done']}"):
        read(browser, address)


@one_database
def test_only_our_own_files_are_served(browser: TestClient) -> None:
    for name in ("page.css", "page.js", "icon.svg"):
        answer = browser.get(f"/static/{name}")
        assert answer.status_code == 200 and answer.headers["x-content-type-options"] == "nosniff"
    for name in ("parts.py", "..%2fwords.py", "nothing"):
        assert browser.get(f"/static/{name}").status_code == 404


def test_a_tenant_sees_its_own_alone(browser: TestClient, ids: dict[str, str], database: Database) -> None:
    with database.begin() as session:
        session.execute(update(Job).where(Job.id == ids["done"]).values(tenant_id=keys.tenant(session, "other")))
    assert ids["done"] not in read(browser, "/")
    for part in ("", "/live", "/actions", "/delete", "/report.html"):
        assert browser.get(f"/jobs/{ids['done']}{part}").status_code == 404
    assert browser.get(f"/new?like={ids['done']}").status_code == 404


@one_database
def test_the_stream_of_a_job_draws_it_at_each_change(
    browser: TestClient, live: str, ids: dict[str, str], house: House
) -> None:
    address = f"{live}/jobs/{ids['running']}/stream"
    with httpx.stream("GET", address, timeout=30) as answer:
        lines = answer.iter_lines()
        first = next(line for line in lines if line.startswith("id: "))
        house.say(ids["running"], event="note", message="a change")
        assert any("a change" in line for line in lines)
        second = next(line for line in lines if line.startswith("id: "))
    assert int(second[4:]) > int(first[4:])
    with httpx.stream("GET", address, headers={"Last-Event-ID": first[4:]}, timeout=30) as answer:
        assert any("a change" in line for line in answer.iter_lines())  # as it missed one
    with house.database.begin() as session:
        attempts.fail(session, ids["running"], 1, {"code": "x", "message": "over"})  # without a field
    last = httpx.get(address, timeout=30)
    version = max(int(line[4:]) for line in last.text.splitlines() if line.startswith("id: "))
    assert "data-ended" in last.text and "over" in last.text
    assert httpx.get(f"{address}?after={version}").status_code == 204
    assert httpx.get(f"{live}/jobs/job_x/stream").status_code == 404


@one_database
def test_who_watch_one_job_have_it_drawn_once(
    browser: TestClient, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawings = []
    monkeypatch.setattr(stream, "drawn", lambda *_, **__: str(drawings.append(1)))
    for _ in range(5):
        assert browser.get(f"/jobs/{ids['running']}/live").status_code == 200
    assert len(drawings) == 1
