"""The command `new`: a specification from a file and three answers."""

from __future__ import annotations

import json as codec
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from topwork.cli.common import (
    A_JOB,
    JsonOption,
    ServerOption,
    dump,
    err,
    fail,
    file_error,
    prose,
    require_answers,
    say,
    session,
)
from topwork.cli.words import understood
from topwork.client import SERVER, Client
from topwork.inventory import ColumnFacts, Dataset

TEXTS = ("text", "sentence", "review", "comment", "content", "body", "message", "question", "title")
LABELS = ("label", "labels", "class", "category", "target", "sentiment", "intent", "rating", "stars", "score", "y")
WORDS, TAGS = ("tokens", "words"), ("tags", "ner_tags")  # lists, of which the second has a tag for each word
QUICK = {  # few steps, and shapes that load with no code
    "method": "fisher",
    "train": {"steps": {"teach": 40, "recover": 40}, "max_length": 64},
    "export": {"layout": "regular"},
}
QUICK_PICTURES = {"train": {"steps": {"teach": 40, "recover": 40}, "image_size": 64}}
QUICK_ROWS = {"train": 500, "dev": 100, "test": 300}  # where there are more


def add(app: typer.Typer) -> None:
    """Its commands."""
    app.command(rich_help_panel=A_JOB)(new)


def new(
    file: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Your labelled rows.")],
    unlabelled: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Texts of the task that nobody has labelled.")
    ] = None,
    source: Annotated[
        list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Related labelled rows to borrow from.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Which model; asked for, if left out.")] = None,
    budget: Annotated[str | None, typer.Option(help="How small: '10%', '20 MB', '3 ms', '4x'; asked for.")] = None,
    text: Annotated[str | None, typer.Option(help="Column of the texts; found out, if left out.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of the labels; found out, if left out.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A first checkpoint in a minute or two, less good.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: take the defaults.")] = False,
    to: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("spec.json"),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    json: JsonOption = False,
    server: ServerOption = SERVER,
) -> None:
    """Ask three questions (Enter takes the default), and write a job's specification."""
    if to.exists() and not force:
        fail(f"{to} is there already; choose another --out, or give --force", 2)
    if not to.parent.is_dir():
        fail(f"{to.parent} is no folder; make it first, or choose another --out", 2)
    with session(server) as client:
        dataset = _read(client, file, json)
        task = _task(dataset, text, label)
        sources = [{"data": _named(one, to), **_source(_read(client, one, json), task)} for one in source or ()]
        if unlabelled is None and not yes:
            unlabelled = _ask_unlabelled(file)
        spec: dict[str, Any] = {
            "model": model or _ask("Which model", _usual_model(client, task), yes),
            "task": {"data": _named(file, to), **task},
            "budget": budget or _ask("How small (10%, 20 MB, 3 ms, 4x)", _usual_budget(task, quick), yes),
            **((QUICK if "text" in task else QUICK_PICTURES) if quick else {}),
        }
        if quick and dataset.rows > 1.1 * sum(QUICK_ROWS.values()):  # some are duplicates
            spec["task"]["split"] = QUICK_ROWS
    if unlabelled is not None:
        spec["task"]["unlabelled"] = {"data": _named(unlabelled, to)}
    if sources:
        spec["sources"] = sources
    try:
        to.write_text(codec.dumps(spec, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        dump(spec)
        fail(file_error(error))
    if json:
        return dump(spec)
    say(f"{to} is written. Next:\n  topwork plan {to}\n  topwork submit {to} --watch")


def _read(client: Client, file: Path, json: bool) -> Dataset:
    dataset = client.data.upload(file)
    if not json:
        for line in understood(dataset):
            prose(line)
    return dataset


def _ask(question: str, default: str, yes: bool) -> str:
    return default if yes else _answer(question, default=default)


def _answer(question: str, **how: Any) -> str:
    require_answers()
    return str(typer.prompt(question, err=True, **how)).strip()


def _ask_unlabelled(file: Path) -> Path | None:
    """Own text is worth most: it is asked for first."""
    question = "A file of texts of this task that nobody has labelled (Enter: none)"
    answer = _answer(question, default="", show_default=False)
    if not answer:
        return None
    if not Path(answer).is_file():
        fail(f"there is no file {answer}", 2)
    if Path(answer).resolve() == file.resolve():
        fail(f"{answer} is the labelled file itself; leave it out", 2)
    return Path(answer)


def _usual_model(client: Client, task: dict[str, Any]) -> str:
    """The smallest that reads such rows."""
    reads = "text" if "text" in task else "image"
    found = [one for one in client.models.list() if one.task == reads and not one.pruned]
    if not found:
        fail(f"the server has no model for {reads}s: put one into its models folder, or name one of a hub with --model")
    return min(found, key=lambda one: one.model_params).name


def _usual_budget(task: dict[str, Any], quick: bool) -> str:
    if "text" not in task:
        return "2x"
    return "50%" if quick else "10%"


def _named(file: Path, spec: Path) -> dict[str, str]:
    try:
        path = os.path.relpath(file, spec.parent)
    except ValueError:  # on another drive of Windows
        path = str(file.resolve())
    return {"dataset": f"@{path}"}


def _task(dataset: Dataset, text: str | None, label: str | None) -> dict[str, Any]:
    """Columns that are named are taken as they are."""
    text, label, picture = _columns(dataset, text, label)
    if label is None or (text is None and picture is None):
        what = "label" if label is None else "text"
        fail(f"which column is the {what}? Give --{what}: {', '.join(dataset.columns)}", 2)
    if text is None:
        return {"type": "image-classification", "image": picture, "label": label}
    return {**_kind(dataset, text, label), "text": [text], "label": label}


def _kind(dataset: Dataset, text: str, label: str) -> dict[str, str]:
    """What is asked where labels are lists: a tag for each word of a list; or several labels of a text."""
    lists = {one.name: one for one in _lists(dataset)}
    if label not in lists:
        return {}
    if text in lists:
        return {"type": "token-classification"}
    values = lists[label].values
    one_each = values and sum(values.values()) <= dataset.rows
    return {} if one_each else {"problem_type": "multi_label_classification"}


def _lists(dataset: Dataset) -> list[ColumnFacts]:
    return [one for one in (dataset.understood.columns if dataset.understood else []) if one.type.startswith("list of")]


def _source(dataset: Dataset, task: dict[str, Any]) -> dict[str, Any]:
    """Columns of the task, where it has them; without one of labels, its texts alone are used."""
    kind = "image" if "image" in task else "text"
    own = task["image"] if kind == "image" else task["text"][0]
    named, label = (name if name in dataset.columns else None for name in (own, task["label"]))
    text, label, picture = _columns(dataset, named, label)
    found = named or (picture if kind == "image" else text)
    if found is None:
        told = f"which column is the {kind}? Call it '{own}', as the task does: {', '.join(dataset.columns)}"
        fail(f"{dataset.name}: {told}", 2)
    columns: dict[str, Any] = {kind: found if kind == "image" else [found]}
    if label is None:
        err.print(f"{dataset.name}: no column of labels is found; its {kind}s alone are used", markup=False)
        return columns
    return columns | {"label": label}


def _columns(dataset: Dataset, text: str | None, label: str | None) -> tuple[str | None, str | None, str | None]:
    """Of texts, of labels, of pictures: by their usual names, else by what they hold."""
    facts, lists = dataset.understood.columns if dataset.understood else [], [one.name for one in _lists(dataset)]
    words, tags = (next((name for name in names if name in lists), None) for names in (WORDS, TAGS))
    if words and tags and text in (None, words) and label in (None, tags):
        return words, tags, None
    picture = next((one.name for one in facts if one.type == "picture"), None)
    label = label or _usual([one for one in facts if one.name != text], LABELS, few=True)
    if picture is None:  # else a text beside it is the name of whoever took it, say
        text = text or _usual([one for one in facts if one.name != label], TEXTS, few=False)
    return text, label, picture


def _usual(facts: list[ColumnFacts], names: tuple[str, ...], few: bool) -> str | None:
    by_name = {one.name.lower(): one.name for one in facts}
    if found := next((by_name[name] for name in names if name in by_name), None):
        return found
    fitting = [one.name for one in facts if bool(one.values) == few and (few or one.type == "text")]
    return fitting[0] if len(fitting) == 1 else None
