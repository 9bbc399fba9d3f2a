"""The fields of a new job, as a specification and back; which field a fault belongs to."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from starlette.datastructures import FormData

from api.http.body import parse_json
from api.http.problems import Problem, invalid
from api.page.answer import text, texts
from api.schemas import Fault
from core.ledger.tables import Dataset
from core.spec.task import SEARCHING

BUDGETS = {  # kind -> what it is called, an example, and where a slider would begin
    "encoder": ("parameters of the encoder", "10%"),
    "params": ("parameters of the whole model", "25%"),
    "macs": ("multiply-accumulates", "10%"),
    "bytes": ("size of the file", "20 MB"),
    "latency_ms": ("time of one pass", "3 ms"),
    "speedup": ("times as fast", "4x"),
    "sparsity": ("zeros", "90%"),
}
TOLD = {  # problem type -> what it is called
    "": "one class",
    "multi_label_classification": "several labels",
    "regression": "a number",
}
COUNTED = ("encoder", "params", "macs", "bytes")
SEVERAL = re.compile(r"(?<!\d),|,(?!\d{3}(?:[^\d%]|$))")  # a comma within 1,000,000 is none between sizes
# No part of it can take what the next one takes: one that does not fit is done with at once, however long it is.
AMOUNT = re.compile(r"((?:\d+(?:[,_ ]+\d+)*(?:\.\d+)?|\.\d+)(?:e\d+)?)(?:\s*(%|ms|x|[kmg]b))?", re.IGNORECASE)
UNITS = {"": 1, "ms": 1, "x": 1, "%": 0.01, "kb": 10**3, "mb": 10**6, "gb": 10**9}
KINDS = {"ms": "latency_ms", "x": "speedup", "kb": "bytes", "mb": "bytes", "gb": "bytes"}  # that a unit is of
SAID = ("title", "model", "task", "sources", "budget", "budgets", "control")
SAID_OF_TASK = ("type", "problem_type", "data", "split", "text", "image", "label", "unlabelled")
FIELDS = {  # the longest that a pointer begins with
    "/title": "title",
    "/model": "model",
    "/task": "type",
    "/task/problem_type": "told",
    "/task/data": "data",
    "/task/split": "split",
    "/task/text": "text",
    "/task/image": "text",
    "/task/label": "label",
    "/task/unlabelled": "unlabelled",
    "/sources": "source",
    "/budget": "budget",
    "/budgets": "budget",
}


@dataclass
class Fields:
    """What stands in the form."""

    title: str = ""
    model: str = ""
    type: str = "text-classification"
    told: str = ""
    data: str = ""
    text: str = ""
    label: str = ""
    train: str = ""
    dev: str = ""
    unlabelled: str = ""
    source: list[str] = field(default_factory=list)
    source_label: str = ""
    kind: str = "encoder"
    budget: str = "10%"
    control: bool = False
    base: str = ""  # the specification of the job that it is like, as JSON: what no field says is kept of it

    @classmethod
    def given(cls, form: FormData) -> Fields:
        """What somebody has filled in."""
        names = [name for name in cls.__dataclass_fields__ if name not in ("source", "control")]
        sources = [one for one in texts(form, "source") if one]
        found = cls(**{name: text(form, name) for name in names}, source=sources, control=bool(text(form, "control")))
        kinds = {_amount(found.kind, one)[0] for one in _several(found.kind, found.budget)}
        found.kind = kinds.pop() if len(kinds) == 1 else found.kind
        return found

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Fields:
        """As far as a specification can be said by the fields."""
        task, found = spec.get("task") or {}, cls(title=spec.get("title") or "", model=str(spec.get("model", "")))
        found.type, found.data = str(task.get("type") or found.type), str((task.get("data") or {}).get("dataset") or "")
        found.told = str(task["problem_type"]) if task.get("problem_type") in TOLD else ""
        found.text = names_said(task.get("text") or task.get("image") or [])
        found.label = names_said(task.get("label") or [])
        split = task.get("split") or {}
        found.train, found.dev = (str(split.get(name) or "") for name in ("train", "dev"))
        found.unlabelled = str(((task.get("unlabelled") or {}).get("data") or {}).get("dataset") or "")
        sources = spec.get("sources") or []
        found.source = [str((one.get("data") or {}).get("dataset") or "") for one in sources]
        found.source_label = next((str(one["label"]) for one in sources if isinstance(one.get("label"), str)), "")
        found.kind, found.budget = _budgets_said(spec.get("budgets") or [spec.get("budget") or {}], found)
        found.control = bool(spec.get("control"))
        found.base = json.dumps(spec)
        return found

    def suit_sources(self, sources: Sequence[Dataset]) -> None:
        """Fill in their column of labels, where all have that of the task."""
        names = _names(self.label)
        if sources and len(names) == 1 and not self.source_label and all(names[0] in one.columns for one in sources):
            self.source_label = names[0]

    def suit(self, data: Dataset | None) -> None:
        """Fill in the columns that are not named, by what the data set has."""
        if data is None:
            return
        facts = {one["name"]: one for one in (data.understood or {}).get("columns", [])}
        pictures = [name for name, one in facts.items() if one["type"] == "picture"]
        if pictures and self.type == "text-classification":
            self.type = "image-classification"
        if not self.label and self.type not in SEARCHING:
            few = [name for name, one in facts.items() if one.get("values")]
            self.label = next((names_said(name) for name in ("label", *few) if name in data.columns), "")
        if not self.text:
            labels = _names(self.label)
            rest = [name for name in data.columns if [name] != labels]
            self.text = next((names_said(name) for name in (*pictures, "text", *rest) if name in data.columns), "")

    @property
    def kept(self) -> list[str]:
        """What is kept of the job that it is like, though no field says it."""
        like = self._like()
        sets = ["task.data"] if not self.data and "train" in like.get("task", {}).get("data", {}) else []
        return [*sets, *(name for name in like if name not in SAID)]

    def spec(self, columns: Mapping[str, Sequence[str]] | None = None) -> dict[str, Any]:
        """The specification that they ask for, where data sets have these columns, by id.

        Raises a 422 Problem for a budget that cannot be read.
        """
        like, made = self._like(), self._said(columns or {})
        if not like:
            return made
        before = Fields.of(like)
        task = self._task(like.get("task", {}), before, made["task"])
        found = {name: value for name, value in like.items() if name not in SAID} | made | {"task": task}
        if (self.kind, self.budget) == (before.kind, before.budget):
            found |= {name: like[name] for name in ("budget", "budgets") if name in like}
        else:
            found |= self._budget(like.get("budgets") or [like.get("budget") or {}])
        known = {(one.get("data") or {}).get("dataset"): one for one in like.get("sources", [])}
        if self.source:
            anew = self.source_label != before.source_label
            found["sources"] = [_source(known.get(one["data"]["dataset"]), one, anew) for one in made["sources"]]
        return found

    def _task(self, like: dict[str, Any], before: Fields, made: dict[str, Any]) -> dict[str, Any]:
        """What was said of it, over that of the job that it is like."""
        found = {name: value for name, value in like.items() if name not in SAID_OF_TASK} | made
        if self.data == before.data and "data" in like:
            found["data"] = like["data"]
        if self.label == before.label and "label" in like:  # a list of one column is several labels, too
            found["label"] = like["label"]
        split = {name: value for name, value in (like.get("split") or {}).items() if name not in ("train", "dev")}
        if split:
            found["split"] = split | made.get("split", {})
        if self.unlabelled:
            columns = {"text": ["text"]} | like  # those that are the task's follow it
            own = like.get("unlabelled") or {}
            own = {name: value for name, value in own.items() if name == "data" or value != columns.get(name)}
            found["unlabelled"] = own if self.unlabelled == before.unlabelled else own | made["unlabelled"]
        return found

    def _like(self) -> dict[str, Any]:
        try:
            found = parse_json(self.base.encode()) if self.base else {}
        except Problem:
            found = {}
        return found if isinstance(found, dict) else {}

    def _said(self, columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        task: dict[str, Any] = {"type": self.type} if self.type != "text-classification" else {}
        task |= {"problem_type": self.told} if self.told else {}
        task |= {"data": {"dataset": self.data}}
        split = {name: _number(getattr(self, name)) for name in ("train", "dev") if getattr(self, name)}
        task |= {"split": split} if split else {}
        names, labels, images = _names(self.text), _names(self.label), self.type == "image-classification"
        names = names[:1] if images else names
        read: dict[str, Any] = {} if not names else {"image": names[0]} if images else {"text": names}
        task |= read
        if labels:
            task["label"] = labels[0] if len(labels) == 1 else labels
        if self.unlabelled:
            task["unlabelled"] = {"data": {"dataset": self.unlabelled}}
        spec: dict[str, Any] = {"title": self.title} if self.title else {}
        spec |= {"model": self.model, "task": task}
        if self.source:
            label = {"label": self.source_label} if self.source_label else {}
            alike = {one: read for one in self.source if {*names} <= {*columns.get(one, ())}}
            spec["sources"] = [{"data": {"dataset": one}, **alike.get(one, {}), **label} for one in self.source]
        return spec | self._budget() | ({"control": True} if self.control else {})

    def _budget(self, like: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
        values = [_as_before(like, _value(self.kind, one)) for one in _several(self.kind, self.budget)]
        return {"budget": values[0]} if len(values) == 1 else {"budgets": values}


def place(faults: Sequence[Fault]) -> tuple[dict[str, list[str]], list[Fault]]:
    """Faults beside their fields, and those that no field is for."""
    beside: dict[str, list[str]] = {}
    rest = []
    for fault in faults:
        pointer = fault.pointer or ""
        fits = [start for start in FIELDS if pointer == start or pointer.startswith(f"{start}/")]
        name = FIELDS[max(fits, key=len)] if fits else pointer.removeprefix("/") if pointer.endswith("_file") else ""
        if name:
            beside.setdefault(name, []).append(fault.detail)
        else:
            rest.append(fault)
    return beside, rest


def _source(like: Mapping[str, Any] | None, made: dict[str, Any], labelled_anew: bool) -> dict[str, Any]:
    """A source as it was; with another column of labels, whatever else was said of it stays."""
    if like is None or not labelled_anew:
        return dict(like or made)
    label = {"label": made["label"]} if "label" in made else {}
    return {name: value for name, value in like.items() if name not in ("label", "label_map")} | label


def _as_before(like: Sequence[Mapping[str, Any]], made: dict[str, Any]) -> dict[str, Any]:
    """A budget, with what else was said alike in all that limited the same."""
    same = [one for one in like if next(iter(made)) in one]
    kept = [item for item in same[0].items() if item != ("of", "model")] if same else []
    return {name: value for name, value in kept if all(one.get(name) == value for one in same)} | made


def _several(kind: str, said: str) -> list[str]:
    """Amounts with commas between them; within one of what is counted there may be some, too."""
    parts = SEVERAL.split(said)
    return [one for part in parts for one in ([part] if _amount(kind, part)[0] in COUNTED else part.split(","))]


def _amount(kind: str, said: str) -> tuple[str, float]:
    """What is limited, by the unit or as chosen, and to how much; infinity where that cannot be read."""
    match = AMOUNT.fullmatch(said.strip())
    if match is None:
        return kind, math.inf
    unit = (match[2] or "").lower()
    if unit == "%" and kind in ("latency_ms", "speedup"):
        return kind, math.inf
    return KINDS.get(unit, kind), float(re.sub(r"[,_ ]", "", match[1])) * UNITS[unit]


def _value(kind: str, said: str) -> dict[str, Any]:
    kind, number = _amount(kind, said)
    if kind not in BUDGETS or not math.isfinite(number):
        what, example = BUDGETS.get(kind, BUDGETS["encoder"])
        detail = f"'{said[:50]}' is no amount of '{what}'; give '{example}', say"
        raise invalid([Fault(pointer="/budget", detail=detail)])
    value: float | int = int(number) if number > 1 and number == int(number) else round(number, 9)
    return {"params": value} if kind == "encoder" else {kind: value} | ({"of": "model"} if kind == "params" else {})


def _budgets_said(budgets: Sequence[Mapping[str, Any]], fields: Fields) -> tuple[str, str]:
    found = [
        (name, value, one.get("of"))
        for one in budgets
        for name, value in one.items()
        if name in (*BUDGETS, "params") and isinstance(value, int | float)
    ]
    if not found:
        return fields.kind, fields.budget
    name, _, of = found[0]
    part = name in ("params", "macs", "bytes", "sparsity")
    said = [f"{100 * value:.6g}%" if part and value <= 1 else f"{value:.12g}" for _, value, _ in found]
    return "encoder" if name == "params" and of != "model" else name, ", ".join(said)


def names_said(names: Any) -> str:
    """A name of a column, or several, as a field has them: in quotes where they hold commas."""
    said = []
    for name in names if isinstance(names, list) else [names]:
        line = StringIO()
        csv.writer(line).writerow([name])
        said.append(line.getvalue().removesuffix("\r\n"))
    return ", ".join(said)


def _names(said: str) -> list[str]:
    try:
        found = [name.strip() for line in csv.reader(StringIO(said), skipinitialspace=True) for name in line]
    except csv.Error:
        return [said]
    return [name for name in found if name]


def _number(said: str) -> int | float | str:
    try:
        return int(said)
    except ValueError:
        try:
            return float(said)
        except ValueError:
            return said
