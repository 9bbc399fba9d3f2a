"""A new job: its fields, its files, its plan, the same as JSON."""

from __future__ import annotations

import html
import json
import re
import time
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.main import create_app
from core.ledger.settings import Settings
from core.ledger.tables import Job
from tests.api.conftest import MODEL, one_database, reviews
from tests.page.conftest import PAGE, Send, token
from tests.page.house import House
from tests.page.test_pages import read


def fields(**changes: Any) -> dict[str, Any]:
    """Of the form of a new job."""
    return {"type": "text-classification", "text": "text", "label": "label", "model": MODEL, "kind": "encoder",
            "budget": "30%", "do": "plan"} | changes  # fmt: skip


UNSENT = ("file", "radio", "checkbox")  # as they stand


class Filled(HTMLParser):
    """What a browser sends of the page's form, as it was filled in."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sent: dict[str, Any] = {}
        self.select = ""
        self.feed(page[page.index("data-plan=") : page.index('<section aria-labelledby="plan-title"')])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep what is typed, checked or selected."""
        found = {name: value or "" for name, value in attrs}
        if tag == "select":
            self.select = found["name"]
        elif tag == "option" and "selected" in found:
            self.sent.setdefault(self.select, []).append(found.get("value"))
        elif tag == "input" and "name" in found and (found.get("type") not in UNSENT or "checked" in found):
            self.sent[found["name"]] = found["value"]

    def handle_data(self, data: str) -> None:
        """Of an option without a value, its text is sent."""
        chosen = self.sent.get(self.select, [])
        if chosen[-1:] == [None]:
            chosen[-1] = data


def written(page: str) -> Any:
    """The JSON that stands on the page."""
    [found] = re.findall(r'<textarea id="spec"[^>]*>(.*?)</textarea>', page, re.DOTALL)
    return json.loads(html.unescape(found))


def test_a_job_is_planned_and_started_without_scripts(browser: TestClient, ids: dict[str, str], send: Send) -> None:
    given = fields(data=ids["data"], unlabelled=ids["own"], source=[ids["movies"]], title="Mine", once="a1b2")
    plan = send("/new", "/new", given)
    assert plan.status_code == 200
    for said in ("It learns from", "40 rows of your own without labels", "negative, positive apart", "is at most"):
        assert said in plan.text, said
    assert plan.text.index("Mind:") < plan.text.index("It learns from")
    start = [send("/new", "/new", given | {"do": "start"}) for _ in range(2)]
    assert [answer.status_code for answer in start] == [303, 303]
    assert start[0].headers["location"] == start[1].headers["location"]  # sent twice, one job
    assert "<h1>Mine</h1>" in read(browser, start[0].headers["location"])


def test_a_file_of_the_form_becomes_a_data_set(browser: TestClient, send: Send, house: House) -> None:
    own = b"text\ngood evening\ngood evening\nhello\n"
    files = {"data_file": ("mine.csv", reviews(60)), "unlabelled_file": ("own.csv", own)}
    page = send("/new", "/new", fields(do="upload", text="", label=""), files=files)
    assert page.status_code == 200 and "What was understood of mine.csv" in page.text
    assert "good evening (2), hello (1)" in page.text
    assert 'name="label" value="label"' in page.text and 'name="text" value="text"' in page.text
    bad = send("/new", "/new", fields(do="upload"), files={"data_file": ("bad.csv", b"\x00")})
    assert bad.status_code == 422 and 'id="wrong-data_file"' in bad.text


def test_texts_of_a_form_need_no_column_of_the_targets_name(send: Send, house: House) -> None:
    lines = house.data(
        "own.txt", content=b"".join(b"It was bought %d days ago. Still unread!\n" % i for i in range(40))
    )
    data = house.data(content=reviews(60).replace(b"text", b"review", 1))
    page = send("/new", "/new", fields(data=data, text="review", unlabelled=lines))
    assert page.status_code == 200 and "40 rows of your own without labels" in page.text
    assert "the texts of own.txt are its column &#39;column1&#39;" in page.text


def test_a_form_asks_for_a_number(send: Send, house: House) -> None:
    data = house.data(content=b"text,label\n" + b"".join(b"review %d,%.1f\n" % (i, i / 10) for i in range(60)))
    page = send("/new", "/new", fields(data=data, told="regression"))
    assert page.status_code == 200 and written(page.text)["task"]["problem_type"] == "regression"
    assert Filled(page.text).sent["told"] == ["regression"]


@pytest.mark.parametrize(
    ("changes", "name", "said"),
    [
        ({"told": "regression", "type": "token-classification"}, "told", "leave it out for token-classification"),
        ({"budget": "much"}, "budget", "is no amount"),
        ({"budget": "0.001%"}, "budget", "out of reach"),
        ({"label": "lable"}, "label", "has no column"),
        ({"text": "body"}, "text", "has no column"),
        ({"model": "nobody"}, "model", "no local model"),
        ({"data": "ds_x"}, "data", "there is no data set"),
        ({"train": "1000"}, "split", ""),
        ({"title": "x" * 101}, "title", "at most 100"),
    ],
)
@one_database
def test_what_is_wrong_is_said_beside_its_field(
    send: Send, house: House, changes: dict[str, Any], name: str, said: str
) -> None:
    page = send("/new", "/new", fields(data=house.data(), **{}) | changes)
    assert page.status_code == 422
    found = re.search(rf'id="wrong-{name}" role="alert">([^<]*)', page.text)
    assert found is not None and said in found[1], page.text


@one_database
def test_amounts_that_do_not_fit_take_no_time(send: Send) -> None:
    began = time.monotonic()
    for budget in ("1" * 40_000 + "!", "1 " * 20_000 + "!", "1" + " " * 40_000 + "!", "1," * 20_000 + "!", "1e999"):
        page = send("/new", "/new", fields(budget=budget, data="ds_x"))
        assert page.status_code == 422 and "is no amount" in page.text, budget[:50]
    assert time.monotonic() - began < 10


@one_database
def test_a_field_of_a_form_has_so_many_characters(send: Send) -> None:
    for name in ("budget", "text", "source", "title"):
        page = send("/new", "/new", fields(data="ds_x") | {name: "x" * 100_000})
        assert page.status_code == 422 and "give at most 65,536" in page.text, name
    spec = send("/new", "/new", {"spec": " " * 100_000 + "{}", "do": "plan"})
    assert spec.status_code == 422 and "give at most" not in spec.text


@one_database
def test_the_fields_of_a_form_have_so_many_bytes(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"max_upload_bytes": 2**25}))
    with TestClient(app, "http://localhost", headers=PAGE) as browser:
        given = {"token": token(browser.get("/new").text), "do": "plan"}
        files = {"data_file": ("mine.csv", b"text,label\n" + b"a,b\n" * 10**6)}
        assert browser.post("/new", data=given | {"spec": " " * 10**6}, files=files).status_code == 422
        much = browser.post("/new", data=given | {f"field{i}": " " * 10**6 for i in range(3)}, files=files)
        assert much.status_code == 413 and "files aside, have more than 2,097,152 bytes" in much.text
        assert browser.post("/new", data=given | {"spec": " " * (2**20 + 1)}, files=files).status_code == 400
        elsewhere = browser.post("/keys", data=given, files={"name": ("name", bytes(2**21))})
        assert elsewhere.status_code == 413 and "The body is larger than 1,048,576 bytes" in elsewhere.text


@pytest.mark.parametrize("name", ["data", "unlabelled", "source", "title", "text", "label", "model"])
def test_a_field_with_a_nul_is_named(browser: TestClient, send: Send, name: str) -> None:
    answers = [send("/new", "/new", fields(**{name: "a\0"}))]
    answers += [browser.get(f"/new?{name}=%00")] if name in ("data", "unlabelled", "source", "model") else []
    for answer in answers:
        assert answer.status_code == 422 and "NUL" in answer.text
        assert re.search(f"<code>/?{name}</code>: ", answer.text)


@one_database
def test_the_json_can_be_edited(browser: TestClient, ids: dict[str, str], send: Send) -> None:
    spec = f'{{"model": "{MODEL}", "task": {{"data": {{"dataset": "{ids["data"]}"}}}}, "budget": {{"params": 0.3}}}}'
    plan = send("/new", "/new", {"spec": spec, "do": "plan"})
    assert plan.status_code == 200 and "It learns from" in plan.text
    for broken, said in ((spec[:-1], "is not JSON"), ("[]", "JSON object"), (spec.replace("task", "tsak"), "/tsak")):
        refused = send("/new", "/new", {"spec": broken, "do": "start"})
        assert refused.status_code == 422 and said in refused.text
    for broken in (spec.replace('"task": {', '"task": 5, "tisk": {'), spec.replace('{"params": 0.3}', "[1]")):
        assert send("/new", "/new", {"spec": broken, "do": "plan"}).status_code == 422
    short = send("/new", "/new", {"spec": spec.replace('{"params": 0.3}', '"30%"'), "do": "plan"})
    assert short.status_code == 200 and 'value="30%"' in short.text
    assert send("/new", "/new", {"spec": spec, "do": "start"}).status_code == 303
    part = send("/new", "/new", fields(data=ids["data"], do="plan-part"))
    assert part.status_code == 200 and "<html" not in part.text and "It learns from" in part.text


@one_database
def test_the_column_of_labels_of_a_source_is_found_once(browser: TestClient, ids: dict[str, str], send: Send) -> None:
    page = read(browser, f"/new?data={ids['data']}&source={ids['movies']}")
    assert 'name="source_label" value="label"' in page
    emptied = send("/new", "/new", fields(data=ids["data"], source=[ids["movies"]], source_label=""))
    assert 'name="source_label" value=""' in emptied.text and "so that its text alone is used" in emptied.text


@one_database
@pytest.mark.parametrize(("header", "columns"), [("review,sentiment", ["review"]), ("text,sentiment", None)])
def test_a_source_has_the_columns_of_the_task_where_it_can(
    browser: TestClient, house: House, send: Send, header: str, columns: list[str] | None
) -> None:
    mine, theirs = (reviews(rows).replace(b"text,label", b"review,sentiment", 1) for rows in (60, 80))
    data = house.data("mine.csv", content=mine)
    movies = house.data("theirs.csv", content=theirs.replace(b"review,sentiment", header.encode(), 1))
    page = read(browser, f"/new?data={data}&source={movies}")
    plan = send("/new", "/new", Filled(page).sent | {"do": "plan"})
    assert plan.status_code == 200, re.findall(r'class="fault".*?>([^<]*)', plan.text)
    for one in (page, plan.text):
        [source] = written(one)["sources"]
        assert (source.get("text"), source["label"]) == (columns, "sentiment")


@one_database
def test_a_clone_asks_for_the_same(browser: TestClient, ids: dict[str, str]) -> None:
    page = read(browser, f"/new?like={ids['other']}")
    assert f'value="{ids["movies"]}" selected' in page and 'value="15%"' in page
    page = read(browser, f"/new?like={ids['family']}")
    assert 'value="40%, 10%"' in page


@one_database
def test_a_clone_has_no_title_of_another(browser: TestClient, house: House) -> None:
    page = read(browser, f"/new?like={house.queued(house.data(), title='Mine')}")
    assert Filled(page).sent["title"] == "" and "title" not in written(page)


@one_database
def test_a_clone_keeps_what_no_field_says(browser: TestClient, house: House, send: Send) -> None:
    data, movies = house.data(), house.data("movies.csv", 80)
    source = {"data": {"dataset": movies}, "label": "label", "label_map": {"negative": "bad"}}
    asked = {"method": {"name": "magnitude"}, "train": {"seed": 7}, "sources": [source], "priority": 8}
    like = house.queued(data, **asked, budget={"params": 0.5, "of": "model"})
    page = read(browser, f"/new?like={like}")
    assert "Kept of the job that this is like, though no field says it: transfer" not in page
    found = re.search(r'name="base" value="([^"]*)"', page)
    assert found is not None and "method, train" in page
    given = fields(data=data, source=[movies], source_label="label", kind="params", budget="50%", do="start")
    start = send("/new", "/new", given | {"base": html.unescape(found[1]), "title": "again"})
    assert start.status_code == 303, re.findall(r'class="bad">(.*)', start.text)
    with house.database.read() as session:
        first, second = (session.get_one(Job, i).spec for i in (like, start.headers["location"][6:]))
    assert second == first | {"title": "again"}


@one_database
def test_a_clone_says_which_of_its_data_sets_is_no_more(browser: TestClient, house: House, send: Send) -> None:
    sets = {name: house.data(f"{name}.csv") for name in ("data", "unlabelled", "source")}
    task = {"data": {"dataset": sets["data"]}, "unlabelled": {"data": {"dataset": sets["unlabelled"]}}}
    like = house.queued("", task=task, sources=[{"data": {"dataset": sets["source"]}, "label": "label"}])
    browser.post(f"/v1/jobs/{like}/cancel")
    for i in sets.values():
        assert browser.delete(f"/v1/datasets/{i}").status_code == 204
    page = read(browser, f"/new?like={like}")
    base = re.search(r'name="base" value="([^"]*)"', page)
    assert base is not None
    given = fields(**{name: i for name, i in sets.items() if f'<option value="{i}" selected>' in page})
    refused = send("/new", "/new", given | {"source_label": "label", "do": "start", "base": html.unescape(base[1])})
    assert refused.status_code == 422
    for name in sets:
        found = re.search(rf'id="wrong-{name}" role="alert">([^<]*)', refused.text)
        assert found is not None and "there is no data set" in found[1], name


@one_database
@pytest.mark.parametrize("model", ["owner/name@v1", "gone"])
def test_a_clone_keeps_a_model_that_is_not_listed(browser: TestClient, house: House, send: Send, model: str) -> None:
    page = read(browser, f"/new?like={house.queued(house.data(), model=model)}")
    again = send("/new", "/new", Filled(page).sent | {"do": "plan"})
    for one in (page, again.text):
        assert Filled(one).sent["model"] == model
        assert written(one)["model"] == model
    nothing = send("/new", "/new", fields(data=house.data()) | {"model": ""})
    assert nothing.status_code == 422 and "model" not in Filled(nothing.text).sent  # none is chosen for somebody


@one_database
def test_a_clone_of_separate_sets_keeps_them(browser: TestClient, house: House, send: Send) -> None:
    sets = {name: {"dataset": house.data(f"{name}.csv", rows)} for name, rows in (("train", 60), ("test", 30))}
    like = house.queued("", task={"data": sets})
    page = read(browser, f"/new?like={like}")
    assert "though no field says it: task.data." in page
    base = re.search(r'name="base" value="([^"]*)"', page)
    assert base is not None
    start = send("/new", "/new", fields(text="", label="", do="start", base=html.unescape(base[1])))
    assert start.status_code == 303, re.findall(r'class="bad">(.*)', start.text)
    with house.database.read() as session:
        first, second = (session.get_one(Job, i).spec for i in (like, start.headers["location"][6:]))
    assert second["task"]["data"] == first["task"]["data"]


@one_database
def test_columns_whose_names_hold_commas_are_found(browser: TestClient, house: House, send: Send) -> None:
    content = reviews(60).replace(b"text,label", b'"Review, full","Stars, of 5"', 1)
    data, movies = (house.data(name, content=content) for name in ("mine.csv", "theirs.csv"))
    page = html.unescape(read(browser, f"/new?data={data}&source={movies}"))
    found = {name: re.search(rf'name="{name}" value="(.*?)" (?:list|place)', page) for name in ("text", "label")}
    assert [one and one[1] for one in found.values()] == ['"Review, full"', '"Stars, of 5"']
    assert '<option value=""Review, full""></option>' in page and 'name="source_label" value="Stars, of 5"' in page
    given = fields(data=data, text='"Review, full"', label='"Stars, of 5"')
    assert send("/new", "/new", given).status_code == 200


@one_database
def test_the_secret_of_a_webhook_is_shown_at_the_start(browser: TestClient, house: House, send: Send) -> None:
    values = {"model": MODEL, "task": {"data": {"dataset": house.data()}}, "budget": {"params": 0.3}}
    spec = json.dumps(values | {"webhook": {"url": "https://example.org/hooks"}})
    start = send("/new", "/new", {"spec": spec, "do": "start"})
    assert start.status_code == 200 and "no-store" in start.headers["cache-control"]
    secret, job = re.search(r"whsec_[^<]+", start.text), re.search(r'href="(/jobs/job_[^"]+)"', start.text)
    assert secret is not None and job is not None
    assert secret[0] not in read(browser, job[1])
