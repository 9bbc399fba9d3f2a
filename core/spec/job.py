"""The job specification, version 1: what an engineer POSTs.

Strict: unknown fields and wrong types are refused. A value that names something planned but not built yet is
refused by name, with what is available.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from core.spec.budget import GROUPS, Budget
from core.spec.data import DatasetRef
from core.spec.methods import METHODS, MethodFacts
from core.spec.strict import Strict, available
from core.spec.task import IMAGES, SEARCHING, VECTORS, Source, TaskSpec


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
            description="left out: 'auto' when sources are given ('teacher' with a budget in 'sparsity'), else 'none'"
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
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0


Layout = Literal["free", "regular"]
HiddenSize = Literal["keep", "trim"]


class Export(Strict):
    """What the download holds."""

    formats: Annotated[
        list[Literal["safetensors", "onnx"]],
        Field(max_length=2, description="'safetensors' is always there; 'onnx' adds model.onnx for ONNX Runtime"),
    ] = ["safetensors"]
    layout: Annotated[
        Layout,
        Field(
            description="regular: only shapes that a plain config.json can say (whole layers, one FFN width), so that "
            "the model loads with from_pretrained and no code; free: any units of any layer"
        ),
    ] = "free"


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
    """One pruning job. Only `model`, `task` and `budget` have no default."""

    model: Annotated[str, Field(max_length=300, examples=["all-minilm-l6-v2"]), AfterValidator(_model_name)]
    task: TaskSpec
    sources: Annotated[list[Source], Field(max_length=8)] = []
    budget: Budget
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
    channels: Annotated[Channels | None, Field(description="of image-classification alone")] = None
    transfer: Transfer = Transfer()
    method: Method = Method()
    train: Train = Train()
    export: Export = Export()
    limits: Limits = Limits()
    resources: Resources = Resources()
    priority: Annotated[int, Field(ge=0, le=9, description="of the queued jobs, the highest runs first")] = 5
    labels: Annotated[
        dict[
            Annotated[str, Field(pattern=r"^[A-Za-z0-9_./-]{1,63}$")],
            Annotated[str, Field(max_length=200)],
        ],
        Field(max_length=20, description="yours, to find the job by: GET /v1/jobs?label=key:value"),
    ] = {}

    webhook: Webhook | None = None
    control: Annotated[bool, Field(description="also run the job without transfer, and report it beside")] = False

    @model_validator(mode="before")
    @classmethod
    def _suited(cls, values: Any) -> Any:
        """Where no method or no coupling is named, and the usual one could not do what is asked for, one that can."""
        if not isinstance(values, dict):
            return values
        budget, transfer = values.get("budget"), values.get("transfer", {})
        if not isinstance(budget, dict) or not isinstance(transfer, dict):
            return values
        filled: dict[str, Any] = {}
        sparse = budget.get("sparsity") is not None
        task = values.get("task")
        if isinstance(task, dict) and task.get("type") == IMAGES and isinstance(values.get("sources"), list):
            filled["sources"] = [_of_images(source) for source in values["sources"]]
        searching = isinstance(task, dict) and task.get("type") in SEARCHING
        if (sparse or searching) and values.get("sources") and transfer.get("coupling") is None:
            filled["transfer"] = {**transfer, "coupling": "teacher"}
        if values.get("method", {}) == {}:
            if sparse:
                filled["method"] = {"name": "magnitude" if budget.get("pattern") in tuple(GROUPS) else "pdp"}
            elif transfer.get("coupling") == "tied":
                filled["method"] = {"name": "l0"}
        return {**values, **filled}

    @model_validator(mode="after")
    def _coupled(self) -> Self:
        coupling, searching = self.coupling, self.task.type in SEARCHING
        labelled = all(source.label is not None or (searching and source.text[1:]) for source in self.sources)
        if coupling != "none" and not self.sources:
            raise PydanticCustomError(
                "/transfer/coupling", f"coupling '{coupling}' needs at least one entry in 'sources'"
            )
        if coupling in ("sequential", "joint", "tied") and not labelled:
            raise PydanticCustomError(
                "/transfer/coupling",
                f"coupling '{coupling}' learns the sources' labels: give each source a 'label' column"
                + " (or two columns of 'text')" * searching
                + ", or use coupling 'teacher'",
            )
        if coupling == "auto" and searching:
            raise PydanticCustomError(
                "/transfer/coupling",
                f"coupling 'auto' tries what labels teach; for {self.task.type} name a coupling, such as 'teacher'",
            )
        for i, source in enumerate(self.sources):
            self._require_alike(i, source)
        if coupling == "auto" and len(self.transfer.share) < 2:
            raise PydanticCustomError(
                "/transfer/coupling",
                "coupling 'auto' tries what shares weights and masks; name a coupling to share one alone",
            )
        if coupling in ("auto", "teacher") and self.transfer.active == ["teach"] and not labelled:
            raise PydanticCustomError(
                "/transfer/stages",
                "text without labels cannot enter the 'teach' stage, where there is no teacher yet; add 'prune' or "
                "'recover' to 'stages'",
            )
        if coupling == "none" and self.transfer.weighting == "learned":
            raise PydanticCustomError(
                "/transfer/weighting", "weighting 'learned' weighs sources: give at least one in 'sources'"
            )
        if self.control and coupling == "none":
            raise PydanticCustomError("/control", "'control' is the job without transfer, and this job has none")
        return self

    def _require_alike(self, i: int, source: Source) -> None:
        """A source is read as the target is."""
        searching = self.task.type in SEARCHING
        if (source.image is None) != (self.task.image is None):
            detail = "pictures: give 'image'" if self.task.image else "texts: give 'text'"
            raise PydanticCustomError(
                f"/sources/{i}/{'image' if source.image else 'text'}",
                f"a source of {self.task.type} is of {detail}, the column of them, instead",
            )
        most, least = (8, 1) if searching else (2, 1)
        if self.task.type == "text-ranking":
            least = 2
        if source.image is None and not least <= len(source.text) <= most:
            raise PydanticCustomError(
                f"/sources/{i}/text", f"a source of {self.task.type} has {least} to {most} columns of text"
            )
        if searching and source.label is not None and len(source.text) != 2:
            raise PydanticCustomError(
                f"/sources/{i}/label", "scores are of two texts each: give two columns in 'text', or no label"
            )
        if isinstance(source.label, list) and self.task.problem != "multi_label_classification":
            raise PydanticCustomError(
                f"/sources/{i}/label",
                f"several columns are of a multi_label_classification, not {self.task.problem}",
            )

    @model_validator(mode="after")
    def _seen(self) -> Self:
        if self.task.type != IMAGES and self.train.image_size is not None:
            raise PydanticCustomError(
                "/train/image_size", f"is of pictures, and {self.task.type} reads texts: leave it out"
            )
        if self.task.type == IMAGES and self.vocabulary == "trim":
            raise PydanticCustomError(
                "/vocabulary", "is of texts, and image-classification reads pictures: leave it out"
            )
        if self.task.type != IMAGES and self.channels is not None:
            raise PydanticCustomError(
                "/channels", f"are of image models, and {self.task.type} reads texts: leave it out"
            )
        if self.task.type == IMAGES:
            self._of_channels()
        return self

    def _of_channels(self) -> None:
        """Nothing is asked for that only transformers of texts have."""
        if self.hidden_size == "trim":
            raise PydanticCustomError("/hidden_size", "is of transformers of texts: leave it out")
        if self.export.layout == "regular":
            raise PydanticCustomError("/export/layout", "no plain config.json can say widths of channels: leave it out")
        if self.budget.sequence_length is not None:
            raise PydanticCustomError(
                "/budget/sequence_length", "is of texts: give 'train.image_size' for pictures of another size"
            )
        if self.own_readers and self.budget.sparsity is not None:
            raise PydanticCustomError(
                "/channels/readers", "no channel goes where 'sparsity' zeroes single weights: leave it out"
            )
        if self.own_readers and METHODS[self.method.name].trains:
            scoring = ", ".join(f"'{name}'" for name, facts in METHODS.items() if not facts.trains)
            raise PydanticCustomError(
                "/channels/readers",
                f"'own' is of methods that score once, and '{self.method.name}' learns masks that all readers share: "
                f"say 'shared', or name one of {scoring}",
            )
        if self.budget.of == "encoder":
            raise PydanticCustomError("/budget/of", "of image models the whole is counted: leave it out")

    @model_validator(mode="after")
    def _methodical(self) -> Self:
        method = METHODS[self.method.name]
        if self.coupling == "tied" and method.name != "l0":
            raise PydanticCustomError(
                "/method/name",
                "coupling 'tied' pulls learned masks together: it needs method 'l0', where masks are learned",
            )
        if not method.trains and self.train.steps.prune is not None:
            raise PydanticCustomError(
                "/train/steps/prune",
                f"method '{method.name}' trains nothing while it prunes: leave 'steps.prune' out, or use a method that "
                f"does: {', '.join(name for name, facts in METHODS.items() if facts.trains)}",
            )
        self._transferred(method)
        if self.budget.sparsity is not None:
            self._sparse()
        if self.export.layout == "regular" and method.trains:
            raise PydanticCustomError(
                "/method/name",
                f"method '{method.name}' masks single units while it trains, which no plain config.json can say: for "
                "'layout' 'regular' use a method that scores once: "
                + ", ".join(name for name, facts in METHODS.items() if not facts.trains),
            )
        if self.hidden_size == "trim":
            self._narrow()
        self._untrained()
        return self

    def _transferred(self, method: MethodFacts) -> None:
        """What is asked of the sources can be done in some stage."""
        if self.coupling == "none":
            return
        unlearned = set() if method.trains else {"prune"}  # where no weights are trained
        active = set(self.transfer.active)
        if active == unlearned and not method.reads_rows:
            raise PydanticCustomError(
                "/method/name",
                f"no row has a say in what method '{method.name}' drops, so that nothing can be transferred in the "
                "'prune' stage alone: share 'weights' in other stages, or use method "
                + ("'pdp'" if self.budget.sparsity is not None else "'fisher'"),
            )
        if active == unlearned and "masks" not in self.transfer.share and self.train.steps.recover != 0:
            raise PydanticCustomError(
                "/transfer/share",
                f"method '{method.name}' trains no weights in the 'prune' stage, so that nothing can be transferred "
                "there without 'masks': share these, too, or add 'recover' to 'stages'",
            )
        apart = {"teach"} if self.coupling in ("auto", "teacher") else set()  # first the sources, then the target
        if self.transfer.weighting == "learned" and not active - unlearned - apart:
            raise PydanticCustomError(
                "/transfer/weighting",
                "weighting 'learned' needs source and target in one batch that trains weights, and no stage of this "
                "transfer has one: leave it out, or add 'recover' to 'stages'",
            )

    def _narrow(self) -> None:
        if METHODS[self.method.name].trains:
            raise PydanticCustomError(
                "/method/name",
                f"method '{self.method.name}' has no masks on hidden dimensions: for 'hidden_size' 'trim' use one that "
                "scores once: " + ", ".join(name for name, facts in METHODS.items() if not facts.trains),
            )
        if self.budget.timed or self.budget.sparsity is not None:
            raise PydanticCustomError(
                "/hidden_size", "'hidden_size' 'trim' is for budgets in 'params', 'macs' or 'bytes': leave it out"
            )
        if self.export.layout == "regular":
            raise PydanticCustomError(
                "/export/layout",
                "no plain config.json can say a hidden size that is not its heads': leave 'layout' out",
            )

    def _untrained(self) -> None:
        left_out = [stage for stage in ("teach", "recover") if getattr(self.train.steps, stage) == 0]
        if self.task.problem == "regression" and "teach" in left_out:
            raise PydanticCustomError(
                "/train/steps/teach",
                "'steps.teach' is 0, but nothing says in what unit a model's own head gives numbers: leave it out",
            )
        for stage in left_out:
            if stage == "teach" and self.task.problem in VECTORS:  # which have none, unless it is asked for
                continue
            if self.coupling == "auto":
                raise PydanticCustomError(
                    "/transfer/coupling",
                    f"coupling 'auto' tries the '{stage}' stage, which has 0 steps here: name a coupling",
                )
            if self.coupling != "none" and stage in self.transfer.active:
                raise PydanticCustomError(
                    "/transfer/stages",
                    f"nothing can enter the '{stage}' stage, which has 0 steps: give 'stages' without it",
                )

    @model_validator(mode="after")
    def _placed(self) -> Self:
        if self.resources.device == "cpu" and self.budget.device == "cuda":
            raise PydanticCustomError(
                "/resources",
                "the budget's latency is of a GPU, which a worker with device 'cpu' has not: leave one 'device' out",
            )
        if (self.resources.gpus or 1) > self.train.batch_size:
            raise PydanticCustomError(
                "/resources/gpus",
                f"'gpus' share each batch, which has {self.train.batch_size} rows: give no more than that",
            )
        return self

    def _sparse(self) -> None:
        if self.export.layout == "regular":
            raise PydanticCustomError(
                "/export/layout",
                "a budget in 'sparsity' keeps every shape, and loads with no code as it is: leave 'layout' out",
            )
        able = [name for name, facts in METHODS.items() if facts.sparsity]
        if self.method.name not in able:
            raise PydanticCustomError(
                "/method/name",
                f"method '{self.method.name}' drops whole units; for a budget in 'sparsity' use {' or '.join(able)}",
            )
        if self.coupling == "auto":
            raise PydanticCustomError(
                "/transfer/coupling",
                "coupling 'auto' tries cuts of whole units; with a budget in 'sparsity' name a coupling",
            )
        if len(self.transfer.share) < 2:
            raise PydanticCustomError(
                "/transfer/share", "with a budget in 'sparsity' masks are the weights themselves: share both"
            )

    @property
    def coupling(self) -> str:
        """The coupling in force once defaults are filled in."""
        return self.transfer.coupling or ("auto" if self.sources else "none")

    @property
    def own_readers(self) -> bool:
        """Whether layers may leave out channels that others read."""
        return self.channels is not None and self.channels.readers == "own"

    @property
    def multiple(self) -> int:
        """Of channels, that widths are multiples of, once the default is filled in."""
        asked = self.channels and self.channels.multiple
        return asked or (16 if self.budget.timed or "onnx" in self.export.formats else 1)

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
        return refs | {f"/sources/{i}/data": source.data for i, source in enumerate(self.sources)}

    def dataset_ids(self) -> dict[str, str]:
        """Data sets that are there: JSON pointer of the id -> id. A hub's has none until it is fetched."""
        return {f"{pointer}/dataset": ref.dataset for pointer, ref in self.references().items() if ref.dataset}

    def columns(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Each data set id with the columns that are read from it: JSON pointer -> name."""
        for pointer, dataset_id in self.dataset_ids().items():
            root, index = pointer.split("/")[1:3]
            where, part = (f"/sources/{index}", self.sources[int(index)]) if root == "sources" else ("/task", self.task)
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
        values = self.model_dump(mode="json")
        for pointer, ref in found.items():
            *path, last = pointer.split("/")[1:]
            part = values
            for name in path:
                part = part[int(name)] if isinstance(part, list) else part[name]
            part[last] = ref.model_dump(mode="json")
        return type(self).model_validate(values)
