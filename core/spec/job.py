"""The job specification, version 1: what an engineer POSTs.

Strict: unknown fields and wrong types are refused. A value that names something planned but not built yet is
refused by name, with what is available.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from core.spec import shorthand
from core.spec.budget import GROUPS, MOST_SIZES, Budget, of_size, require_family
from core.spec.data import DatasetRef
from core.spec.methods import METHODS
from core.spec.rules import require
from core.spec.strict import Strict, available
from core.spec.task import IMAGES, SEARCHING, UNLABELLED, Source, TaskSpec


def _model_name(value: str) -> str:
    """A local name, or `owner/name@revision` of a hub: never a path."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w.-]+(/[\w.-]+)*)?", value) or ".." in value:
        raise PydanticCustomError(
            "model_name",
            "is not a model name; give a name from GET /v1/models or a hub id 'owner/name@revision', not a path",
        )
    return value


SPLIT_COLUMNS = ("split", "fold", "set", "subset", "partition")  # as tables name what says train or test

Stage = Literal["teach", "prune", "recover"]


class Transfer(Strict):
    """How to couple the tasks, what to transfer, when (the three questions of arXiv 2311.06382)."""

    coupling: Annotated[
        Literal["none", "sequential", "joint", "tied", "teacher", "auto"] | None,
        Field(
            description="left out: 'auto' when sources are given ('teacher' with a budget in 'sparsity'), 'teacher' "
            "with task.unlabelled alone, else 'none'"
        ),
    ] = None
    share: Annotated[list[Literal["weights", "masks"]], Field(min_length=1)] = ["weights", "masks"]
    stages: Annotated[
        list[Stage] | None, Field(min_length=1, description="left out: every stage that 'share' leaves a meaning")
    ] = None
    weighting: Annotated[
        Literal["fixed", "learned"],
        Field(description="learned: each source's weight follows how far its gradient agrees with the target's on dev"),
    ] = "fixed"

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name, values in (("share", self.share), ("stages", self.stages or [])):
            if len(set(values)) != len(values):
                raise PydanticCustomError(f"/transfer/{name}", f"'{name}' names an entry twice")
        if "weights" not in self.share and self.stages not in (None, ["prune"]):
            raise PydanticCustomError(
                "/transfer/stages",
                "sharing masks alone means something in the 'prune' stage only, where masks are learned; "
                "leave 'stages' out, or share 'weights' too",
            )
        if self.coupling == "tied" and ("masks" not in self.share or "prune" not in self.active):
            raise PydanticCustomError(
                "/transfer/coupling",
                "coupling 'tied' pulls the masks of the tasks together: it needs 'masks' in 'share' and 'prune' in "
                "'stages'; use 'joint' for the rest",
            )
        if self.weighting == "learned" and self.coupling in ("none", "sequential"):
            raise PydanticCustomError(
                "/transfer/weighting",
                f"weighting 'learned' needs source and target in one batch, which coupling '{self.coupling}' has not; "
                "use 'joint', 'tied' or 'teacher'",
            )
        return self

    @property
    def active(self) -> list[Stage]:
        """Stages that transfer enters, once defaults are filled in."""
        return self.stages or (["prune"] if "weights" not in self.share else ["teach", "prune", "recover"])


if TYPE_CHECKING:
    MethodName = str
else:
    MethodName = Literal[tuple(METHODS)]


class Method(Strict):
    """How units are scored. Left out: `fisher`; with coupling `tied` `l0`, with a budget in `sparsity` `pdp`, or
    `magnitude` for N:M."""

    name: Annotated[
        MethodName,
        available("method", tuple(METHODS), ("channels",)),
        Field(description="; ".join(f"{facts.name}: {facts.what}" for facts in METHODS.values())),
    ] = "fisher"


StepCount = Annotated[int, Field(ge=1, le=1_000_000)]
OrNone = Annotated[int, Field(ge=0, le=1_000_000)]


class Steps(Strict):
    """Optimiser steps of each stage, the same for every coupling; left out, they follow from data size and budget."""

    teach: Annotated[
        OrNone | None, Field(description="0: the model's own head knows the labels already, and is kept as it is")
    ] = None
    prune: StepCount | None = None
    recover: Annotated[
        OrNone | None,
        Field(description="0: what is left is not trained; units that were scored are refitted by least squares"),
    ] = None


class Train(Strict):
    """How long, how, and with which seed."""

    steps: Steps = Steps()
    batch_size: Annotated[int, Field(ge=2, le=1024)] = 32
    max_length: Annotated[int, Field(ge=8, le=512, description="tokens; longer texts are cut")] = 128
    image_size: Annotated[
        int | None,
        Field(
            ge=32, le=512, description="pixels of a side of each picture; left out: as the model's preprocessor says"
        ),
    ] = None
    learning_rate: Annotated[float, Field(ge=1e-9, le=0.1)] | None = Field(
        None, description="default: by the hidden size; three times as large in recovery where little is left"
    )
    contrastive: Annotated[
        Literal["auto"] | bool,
        Field(
            description="half of the steps of 'teach' draw rows of one class together and others apart, before a "
            "fresh head is fitted; fewer than 2,000 rows are trained on at less than the rate; auto: where the model's "
            "modules.json says that it gives vectors of texts"
        ),
    ] = "auto"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


Layout = Literal["free", "regular"]
AskedLayout = Literal["auto", "free", "regular"]
HiddenSize = Literal["keep", "trim"]
Pooling = Literal["first", "mean"]


Precision = Literal["float32", "float16", "bfloat16"]
Format = Literal["safetensors", "onnx", "onnx-int8"]
OnnxFormat = Literal["onnx", "onnx-int8"]
ONNX_FILES: Mapping[str, str] = {"onnx": "model.onnx", "onnx-int8": "model.int8.onnx"}  # by format, and runtime


class Export(Strict):
    """What the download holds."""

    formats: Annotated[
        list[Format],
        Field(
            max_length=3,
            description="'safetensors' is always there; 'onnx' adds model.onnx for ONNX Runtime, 'onnx-int8' "
            "model.int8.onnx, with weights and products of 8 bits and a quality of its own in the report",
        ),
    ] = ["safetensors"]
    precision: Annotated[
        Precision,
        Field(description="of the numbers in model.safetensors, which 'bytes' counts; all is measured as rounded"),
    ] = "float32"
    layout: Annotated[
        AskedLayout,
        Field(
            description="regular: only shapes that a plain config.json can say (whole layers, one FFN width), so that "
            "the model loads with from_pretrained and no code; free: any units of any layer; auto: both are made, and "
            "regular is taken where dev rows do not tell it from free"
        ),
    ] = "free"

    @property
    def first_layout(self) -> Layout:
        """The one that is made, and that another may be put in place of."""
        return "regular" if self.layout == "regular" else "free"


class Limits(Strict):
    """When to give up."""

    max_runtime_s: Annotated[int, Field(ge=10, le=7 * 24 * 3600)] = 7200


class Resources(Strict):
    """What a worker must have to run the job, as GET /v1/workers shows it; the job waits until one has."""

    device: Annotated[
        Literal["cpu", "cuda"] | None, Field(description="cuda: one with a GPU; cpu: one without; left out: any")
    ] = None
    gpus: Annotated[
        int | None,
        Field(ge=1, le=64, description="GPUs that share each batch, all of one worker; left out: one, if it has any"),
    ] = None
    memory_gb: Annotated[
        float | None,
        Field(
            gt=0, le=1e6, description="of each GPU, or of the machine where the worker has none; in all, in 10^9 bytes"
        ),
    ] = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.device == "cpu" and self.gpus is not None:
            raise PydanticCustomError(
                "/resources", "'gpus' are of device 'cuda': leave 'gpus' out, or give that device"
            )
        return self


def _address(value: str) -> str:
    try:
        parts = urlsplit(value)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        whole = False
    if not whole or parts.username or parts.password or parts.fragment or not re.fullmatch(r"[\x21-\x7e]+", value):
        raise PydanticCustomError("webhook", "is not an address such as https://example.org/hooks/topwork")
    return value


class Webhook(Strict):
    """Who is told when the job has ended (standardwebhooks.com); the answer to POST has the secret to check it with."""

    url: Annotated[
        str, Field(max_length=2000, examples=["https://example.org/hooks/topwork"]), AfterValidator(_address)
    ]


def _of_all(budget: dict[str, Any]) -> dict[str, Any]:
    """A budget of an image model, of which the whole is counted."""
    return budget | {"of": "model"} if budget.get("params") is not None and budget.get("of") is None else budget


def _of_images(source: Any) -> Any:
    """A source of pictures, whose column has a usual name."""
    if isinstance(source, dict) and source.get("image") is None and not source.get("text"):
        return source | {"image": "image"}
    return source


class Channels(Strict):
    """How channels of image models are kept."""

    readers: Annotated[
        Literal["shared", "own"],
        Field(
            description="shared: all layers that read a tensor read the same channels of it; own: each may leave out "
            "what others read (methods that score once alone)"
        ),
    ] = "shared"
    multiple: Annotated[
        int | None,
        Field(
            ge=1,
            le=64,
            description="widths are multiples of so many channels; left out: 16 where a latency is asked for or "
            "'onnx' is exported, since runtimes are slow at odd ones, else 1",
        ),
    ] = None


class JobSpec(Strict):
    """One pruning job. `model`, `task` and one of `budget` and `budgets` have no default."""

    model_config = ConfigDict(serialize_by_alias=True)

    model: Annotated[str, Field(max_length=300, examples=["all-minilm-l6-v2"]), AfterValidator(_model_name)]
    task: TaskSpec
    sources: Annotated[list[Source], Field(max_length=8)] = []
    budgets: Annotated[
        list[Annotated[Budget, shorthand.BUDGET]],
        Field(
            min_length=2,
            max_length=MOST_SIZES,
            description="several sizes of one model, taught once: each is a whole checkpoint in a folder of its own",
            exclude_if=lambda budgets: not budgets,
        ),
    ] = []
    one_budget: Annotated[
        Budget | None,
        shorthand.BUDGET,
        Field(alias="budget", description="how small; or give `budgets`", validate_default=True),
    ] = None
    vocabulary: Annotated[
        Literal["keep", "trim"],
        Field(description="trim: keep the tokens that the texts use, and what it takes to encode any other text"),
    ] = "keep"
    hidden_size: Annotated[
        HiddenSize,
        Field(
            description="trim: dimensions of the residual stream may go, too, from embeddings to head, so that small "
            "budgets of the whole model can be reached"
        ),
    ] = "keep"
    pooling: Annotated[
        Literal["auto", "first", "mean"],
        Field(
            description="where a fresh head reads a text: at its first token, or from the mean of all; auto: the mean "
            "where the model's modules.json says that it was trained so and the layout is free, else as the model does"
        ),
    ] = "auto"
    channels: Annotated[Channels | None, Field(description="of image-classification alone")] = None
    transfer: Transfer = Transfer()
    method: Annotated[Method, shorthand.BY_NAME] = Method()
    train: Train = Train()
    export: Export = Export()
    limits: Limits = Limits()
    resources: Resources = Resources()
    priority: Annotated[int, Field(ge=0, le=9, description="of your queued jobs, the highest runs first")] = 5
    title: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=100,
            description="what people call the job; left out: its model, task and budget",
            exclude_if=lambda title: title is None,
            examples=["reviews, a tenth"],
        ),
    ] = None
    labels: Annotated[
        dict[
            Annotated[str, Field(pattern=r"^[A-Za-z0-9_./-]{1,63}$")],
            Annotated[str, Field(max_length=200)],
        ],
        Field(max_length=20, description="yours, to find the job by: GET /v1/jobs?label=key:value"),
    ] = {}

    webhook: Webhook | None = None
    probe: Annotated[
        bool,
        Field(
            description="only measure what the model takes on a worker, under the conditions of each budget in time "
            "(of none: eagerly, and as exported files run), and end: nothing is trained, no model is made",
            exclude_if=lambda probe: not probe,
        ),
    ] = False
    control: Annotated[bool, Field(description="also run the job without transfer, and report it beside")] = False

    @model_validator(mode="before")
    @classmethod
    def _suited(cls, values: Any) -> Any:
        """Where no method or no coupling is named, and the usual one could not do what is asked for, one that can."""
        if not isinstance(values, dict):
            return values
        values = {"budget": None, **values}  # so that what is said of it names it
        several, transfer = values.get("budgets"), values.get("transfer", {})
        given: list[Any] = several if isinstance(several, list) and several else [values.get("budget")]
        budgets = [*map(shorthand.read_budget, given)]
        if not all(isinstance(budget, dict) for budget in budgets) or not isinstance(transfer, dict):
            return values
        filled: dict[str, Any] = {}
        sparse = any(budget.get("sparsity") is not None for budget in budgets)
        resources = values.get("resources", {})
        if several and any(budget.get("device") == "cuda" for budget in budgets) and isinstance(resources, dict):
            filled["resources"] = {"device": "cuda"} | resources
        task = values.get("task")
        if isinstance(task, dict) and task.get("type") == IMAGES:
            whole = [*map(_of_all, budgets)]
            filled |= {"budgets": whole} if several else {"budget": whole[0]}
            if isinstance(values.get("sources"), list):
                filled["sources"] = [_of_images(source) for source in values["sources"]]
        searching = isinstance(task, dict) and task.get("type") in SEARCHING
        if (sparse or searching) and values.get("sources") and transfer.get("coupling") is None:
            filled["transfer"] = {**transfer, "coupling": "teacher"}
        if values.get("method", {}) == {}:
            if sparse:
                grouped = any(budget.get("pattern") in tuple(GROUPS) for budget in budgets)
                filled["method"] = {"name": "magnitude" if grouped else "pdp"}
            elif transfer.get("coupling") == "tied":
                filled["method"] = {"name": "l0"}
        return {**values, **filled}

    @field_validator("one_budget", mode="before")
    @classmethod
    def _given(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.data.get("budgets") == []:
            raise PydanticCustomError("missing", "Field required")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.one_budget is not None and self.budgets:
            raise PydanticCustomError("/budget", "'budgets' are given, too: leave one of the two out")
        require_family(self.budgets)
        for i, size in enumerate(self.sizes):
            try:
                require(size)
            except PydanticCustomError as error:
                if not self.budgets:
                    raise
                raise PydanticCustomError(of_size(error.type, i), error.message_template) from error
        return self

    @property
    def sizes(self) -> tuple[Self, ...]:
        """The job of each size alone, in the order of `budgets`; of one budget, the job itself."""
        if not self.budgets:
            return (self,)
        common: dict[str, Any] = {"budgets": []}
        if self.task.type == IMAGES:  # one network has the channels of all
            common["channels"] = (self.channels or Channels()).model_copy(update={"multiple": self.multiple})
        elif brought := [name for name in self.onnx_formats if name not in self.export.formats]:  # for all, by one
            common["export"] = self.export.model_copy(update={"formats": [*self.export.formats, *brought]})
        return tuple(self.model_copy(update=common | {"one_budget": budget}) for budget in self.budgets)

    @property
    def every_budget(self) -> list[Budget]:
        """The one, or those of all sizes."""
        return self.budgets or [self.budget]

    @property
    def budget(self) -> Budget:
        """What is met; of several sizes each has its own."""
        if self.one_budget is None:
            raise ValueError("a job of several budgets has none of its own: ask its `sizes`")
        return self.one_budget

    @property
    def coupling(self) -> str:
        """The coupling in force once defaults are filled in."""
        return self.transfer.coupling or ("auto" if self.sources else "teacher" if self.task.unlabelled else "none")

    @property
    def teaches_mixed(self) -> bool:
        """Whether each batch of `teach` is of several tasks."""
        return self.coupling in ("joint", "tied") and "teach" in self.transfer.active

    @property
    def borrowed(self) -> dict[str, Source]:
        """All that it may transfer from, by JSON pointer: the sources, then the target's own rows without labels."""
        own = {UNLABELLED: self.task.unlabelled.source} if self.task.unlabelled else {}
        return {f"/sources/{i}": source for i, source in enumerate(self.sources)} | own

    @property
    def sparse(self) -> bool:
        """Whether single weights become zeros in place of units that go."""
        return any(budget.sparsity is not None for budget in self.every_budget)

    @property
    def maps_vectors(self) -> bool:
        """Whether vectors have to pass a Dense layer: where hidden dimensions go, or first dimensions serve alone."""
        return self.hidden_size == "trim" or bool(self.task.dimensions)

    @property
    def own_readers(self) -> bool:
        """Whether layers may leave out channels that others read."""
        return self.channels is not None and self.channels.readers == "own"

    @property
    def multiple(self) -> int:
        """Of channels, that widths are multiples of, once the default is filled in."""
        asked = self.channels and self.channels.multiple
        timed = any(budget.timed for budget in self.every_budget)
        return asked or (16 if timed or self.onnx_formats else 1)

    @property
    def onnx_formats(self) -> tuple[OnnxFormat, ...]:
        """Those of the exported files that are for ONNX Runtime.

        A budget in time of int8 brings its file, whose answers are its own.
        """
        asked = {*self.export.formats} | ({budget.runtime for budget in self.every_budget} & {"onnx-int8"})
        return tuple(name for name in get_args(OnnxFormat) if name in asked)

    @property
    def length(self) -> int:
        """Tokens of the text that MACs are counted for, and latency is measured on."""
        return self.budget.sequence_length or self.train.max_length

    def references(self) -> dict[str, DatasetRef]:
        """Every data set that the job reads, by the JSON pointer of its reference."""
        data = self.task.data
        refs = (
            {"/task/data": data}
            if isinstance(data, DatasetRef)
            else {
                f"/task/data/{name}": ref
                for name, ref in (("train", data.train), ("dev", data.dev), ("test", data.test))
                if ref is not None
            }
        )
        return refs | {f"{pointer}/data": source.data for pointer, source in self.borrowed.items()}

    def dataset_ids(self) -> dict[str, str]:
        """Data sets that are there: JSON pointer of the id -> id. A hub's has none until it is fetched."""
        return {f"{pointer}/dataset": ref.dataset for pointer, ref in self.references().items() if ref.dataset}

    def columns(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Each data set id with the columns that are read from it: JSON pointer -> name."""
        borrowed = self.borrowed
        for pointer, dataset_id in self.dataset_ids().items():
            where = pointer.removesuffix("/data/dataset")
            where, part = (where, borrowed[where]) if where in borrowed else ("/task", self.task)
            found = (
                {f"{where}/text/{i}": name for i, name in enumerate(part.text)}
                if part.image is None
                else {f"{where}/image": part.image}
            )
            several = isinstance(part.label, list)
            yield (
                dataset_id,
                found | {f"{where}/label" + f"/{i}" * several: name for i, name in enumerate(part.label_columns)},
            )

    def optional_columns(self) -> dict[str, set[str]]:
        """Columns, by data set id, that are read where the data set has them, and missed nowhere.

        They raise doubts: one that says which rows are of which split, and labels that a source does not name.
        """
        data, found = self.task.data, {}
        if isinstance(data, DatasetRef) and data.dataset:
            found[data.dataset] = {form for name in SPLIT_COLUMNS for form in (name, name.capitalize(), name.upper())}
        for source in self.sources:
            if source.label is None and source.data.dataset:
                found.setdefault(source.data.dataset, set()).update(self.task.label_columns)
        return found

    def with_data(self, found: Mapping[str, DatasetRef]) -> Self:
        """The same job with other references at these JSON pointers."""
        return self.with_values({pointer: ref.model_dump(mode="json") for pointer, ref in found.items()})

    def with_values(self, found: Mapping[str, Any]) -> Self:
        """The same job with other values, as JSON, at these JSON pointers."""
        values = self.model_dump(mode="json")
        for pointer, value in found.items():
            *path, last = pointer.split("/")[1:]
            part: Any = values
            for name in path:
                part = part[int(name)] if isinstance(part, list) else part[name]
            part[int(last) if isinstance(part, list) else last] = value
        return type(self).model_validate(values)
