"""What the API answers: response models, with examples for /docs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, TypeAdapter, field_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from core.spec import messages
from core.spec.latency import Latency
from core.spec.report import FamilyReport, ProbeReport, Report

Status = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
DatasetId = Annotated[str, Field(examples=["ds_0192f0c1e0a77c5fb0a6c3a1d2e4f5a6"])]
JobId = Annotated[str, Field(examples=["job_0192f0c2a4b17d1c9e0f3a5b7c8d9e0f"])]
Sha256 = Annotated[str, Field(examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"])]
Asked = Annotated[  # titled, since generators of clients would call it JobSpec, as what is posted
    dict[str, Any],
    Field(title="As stored", description="the specification; null where the value follows from the rest"),
]
Cursor = Annotated[str | None, Field(description="give it as `cursor` for the next page; null on the last")]


class Described:
    """What is stored as JSON, and answered as it is, whatever version wrote it: as this version would."""

    def __init__(self, form: Any) -> None:
        self.form = TypeAdapter(form)

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Of the form, or any object: an earlier version may have written less."""
        earlier = {"type": "object", "description": "as an earlier version wrote it"}
        return {"anyOf": [handler(self.form.core_schema), earlier]}


def instant(ms: int) -> datetime:
    """Milliseconds since the epoch as a UTC time."""
    return datetime.fromtimestamp(ms / 1000, UTC)


class Fault(BaseModel):
    """One thing wrong with a request: `pointer` into the body (RFC 6901), or the name of a `parameter` or header."""

    pointer: str | None = Field(None, examples=["/budget/params"])
    parameter: str | None = Field(None, examples=["limit"])
    detail: str = Field(examples=["out of reach: the encoder of this model can have 10,000 to 10,645,632 parameters"])


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str = "about:blank"
    title: str = Field(examples=["Unprocessable Content"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["The request cannot be carried out; see 'errors' for each fault."])
    errors: list[Fault] | None = None


class Skipped(BaseModel):
    """A column that was left out."""

    column: str = Field(examples=["embedding"])
    why: str = Field(examples=["holds lists of numbers"])


class ColumnFacts(BaseModel):
    """A column that was kept."""

    name: str = Field(examples=["label"])
    type: str = Field(examples=["text"])
    empty: int = Field(description="cells without a value", examples=[0])
    values: dict[str, int] = Field(
        description="how often there is each, the commonest first, of a column of few", examples=[{"positive": 650}]
    )

    @field_validator("values")
    @classmethod
    def _commonest_first(cls, values: dict[str, int]) -> dict[str, int]:
        """PostgreSQL keeps no order of keys."""
        return dict(sorted(values.items(), key=lambda one: -one[1]))


class FileOptions(BaseModel):
    """What its user said of a file; null is found out."""

    delimiter: str | None = Field(examples=[None])
    encoding: str | None = Field(examples=["windows-1252"])
    header: bool | None = Field(examples=[None])


class Understood(BaseModel):
    """What was made out of a file; null where it does not apply."""

    kind: str = Field(examples=["csv"])
    rows: int = Field(examples=[1300])
    columns: list[ColumnFacts]
    skipped: list[Skipped]
    compression: str | None = Field(examples=["gzip"])
    encoding: str | None = Field(examples=["utf-8"])
    delimiter: str | None = Field(examples=[","])
    header: bool | None = Field(description="whether the first line names the columns", examples=[True])
    notes: list[str] = Field(description="what was guessed, mended or left out: a sentence each")
    asked: FileOptions | None = Field(
        default=None, description="null of what an earlier version of the server has read"
    )


class Dataset(BaseModel):
    """A table that was uploaded, or fetched from a hub."""

    id: DatasetId
    name: str = Field(examples=["reviews.csv"], description="of the file; of a hub's: owner/name@commit/config/split")
    format: str = Field(examples=["csv"], description="csv, jsonl, json, parquet, arrow, xlsx, conll or imagefolder")
    rows: int = Field(examples=[1300])
    columns: list[str] = Field(examples=[["text", "label"]])
    size_bytes: int = Field(description="as stored (Parquet)", examples=[48213])
    sha256: Annotated[Sha256, Field(description="of the stored Parquet file")]
    upload_sha256: Annotated[
        Sha256, Field(description="of the file as uploaded; of a hub's files, one after the other")
    ]
    understood: Understood | None = Field(description="null of a file that an earlier version of the server has read")
    created_at: datetime
    links: dict[str, str] = Field(examples=[{"self": "/v1/datasets/ds_...", "preview": "/v1/datasets/ds_.../preview"}])


class DatasetPage(BaseModel):
    """Data sets, newest first."""

    items: list[Dataset]
    next: Cursor


class Preview(BaseModel):
    """The first rows; long cells are shortened.

    Of a picture: path, format, width, height and `thumbnail`, a small one as a data URI.
    """

    columns: list[str] = Field(examples=[["text", "label"]])
    rows: list[dict[str, Any]] = Field(examples=[[{"text": "Sturdy, and light.", "label": "positive"}]])
    understood: Understood | None = Field(description="as of the data set")


class Upload(BaseModel):
    """A file that arrives in parts."""

    id: str = Field(examples=["up_0192f0c5e4f38b2c9d0e1f2a3b4c5d6e"])
    name: str = Field(examples=["reviews.csv"])
    size_bytes: int
    sha256: Sha256
    part_bytes: int = Field(description="of every part but the last", examples=[8388608])
    parts: int = Field(description="how many there are to send, from 1", examples=[12])
    arrived: list[int] = Field(examples=[[1, 2, 5]])
    dataset: str | None = Field(description="the data set that came of it")
    created_at: datetime


class Progress(BaseModel):
    """Where the stage stands; what a stage does not know is null."""

    model_config = ConfigDict(extra="allow")

    step: int | None = Field(None, examples=[120])
    steps: int | None = Field(None, examples=[400])
    eta_s: float | None = Field(None, examples=[95.0])
    overall: float | None = Field(None, description="0 to 1, over all stages", examples=[0.45])
    sparsity: float | None = Field(None, examples=[0.62])
    dev: dict[str, Any] | None = Field(None, examples=[{"accuracy": 0.81}])


class JobError(BaseModel):
    """Why a job failed."""

    model_config = ConfigDict(extra="allow")

    code: str = Field(examples=["attempts_exhausted"])
    message: str
    field: str | None = Field(None, description="JSON pointer into the specification, where one field is to blame")


class Delivery(BaseModel):
    """How the last message to a job's webhook fares."""

    status: Literal["waiting", "delivered", "given_up"]
    attempts: int = Field(description="so far", examples=[2])
    last_attempt_at: datetime | None
    last_status: int | None = Field(
        description="HTTP status that was answered; null if nobody answered", examples=[503]
    )
    next_attempt_at: datetime | None = Field(description="null once it has arrived or is given up")


class Job(BaseModel):
    """A pruning job."""

    id: JobId
    status: Status
    stage: str | None = Field(description="data, auto, teach, prune, recover, measure or export", examples=["prune"])
    waiting: str | None = Field(description="why a queued job does not run yet", examples=["no GPU worker is alive"])
    progress: Progress
    eta_s: float | None = Field(description="estimate of the seconds of training left; null while there is none")
    attempt: int = Field(description="starts so far: attempt n of max_attempts", examples=[1])
    max_attempts: int = Field(examples=[3])
    metrics: Annotated[dict[str, Any], Described(Report | FamilyReport | ProbeReport)] | None = Field(
        description="the report, once the job has succeeded"
    )
    error: JobError | None
    delivery: Delivery | None = Field(description="with `webhook`, once the job has ended")
    spec: Asked
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str] = Field(examples=[{"self": "/v1/jobs/job_...", "files": "/v1/jobs/job_.../files"}])


class Accepted(Job):
    """A job that was asked for."""

    webhook_secret: str | None = Field(
        None, description="with `webhook`: what its messages are signed with; shown in this answer only"
    )


class JobPage(BaseModel):
    """Jobs, newest first."""

    items: list[Job]
    next: Cursor


class Rows(BaseModel):
    """Rows that a job uses, duplicates removed."""

    train: int = Field(examples=[100])
    dev: int = Field(examples=[50])
    test: int = Field(examples=[2247])
    sources: list[int] = Field(examples=[[10568]])
    unlabelled: int = Field(description="the target's own, without labels", examples=[1250])
    dropped: dict[str, int] = Field(description="rows left out, by reason")


class Reach(BaseModel):
    """The range of one cost that pruning can reach."""

    cost: Literal["params", "macs", "bytes"]
    of: Literal["encoder", "model"]
    lowest: int = Field(examples=[19000])
    dense: int = Field(examples=[10646784])
    sequence_length: int | None = Field(None, description="tokens, of MACs; of image models pixels of a side")


class Units(BaseModel):
    """What there is to drop."""

    layers: int = Field(examples=[6])
    heads: int = Field(description="in each layer; of a pruned model, in that with the most", examples=[12])
    neurons: int = Field(description="in each layer; of a pruned model, in that with the most", examples=[1536])
    hidden: int = Field(
        description="dimensions of the residual stream, which go with 'hidden_size' 'trim'", examples=[384]
    )


class ChannelUnits(BaseModel):
    """What there is to drop of an image model."""

    blocks: int = Field(description="of channels that lie in the same tensors", examples=[25])
    channels: int = Field(
        description="counted once where several layers share them; a head of attention is one", examples=[9128]
    )
    removable: float = Field(description="part of the multiply-accumulates that can go at all", examples=[0.998])
    apart: int | None = Field(
        None, description="layers that may leave out channels that others read, with 'channels.readers' 'own'"
    )


class Seconds(BaseModel):
    """From, to."""

    low: float = Field(examples=[85.0])
    high: float = Field(examples=[170.0])


class Estimate(BaseModel):
    """What a job would take, once a worker has it."""

    device: Literal["cpu", "cuda"] = Field(description="what the workers have that are there; else of the last job")
    seconds: Seconds | None = Field(description="null where there is nothing to go by")
    basis: str = Field(examples=["from 12 finished jobs on cpu", "no finished jobs on cpu yet: rough"])
    memory_bytes: int = Field(description="of the device, at most; by arithmetic", examples=[1200000000])


class PlannedSize(BaseModel):
    """One of several sizes."""

    name: str = Field(description="also of its folder in the download", examples=["params-0.1"])
    limit: int | None = Field(description="as that of a single budget", examples=[1064678])


class Plan(BaseModel):
    """What a job would do."""

    spec: Asked
    labels: list[str] = Field(
        description="of the outputs, in their order: the model's, where its own head knows them, else sorted",
        examples=[["negative", "positive"]],
    )
    head: str | None = Field(
        description="which head is trained on; null for a model of the hub",
        examples=["its own head for 2 labels", "a fresh head for 2 labels: it has none of its own"],
    )
    rows: Rows
    units: Units | ChannelUnits | None = Field(
        description="null for a model of the hub, which the worker fetches, and for one of pictures where the API has "
        "no torch, or too little memory and time to find it out"
    )
    limit: int | None = Field(
        description="of what `budget` names, as a count; null for a latency, and of several sizes", examples=[1064678]
    )
    sizes: list[PlannedSize] = Field([], description="of `budgets`")
    reach: list[Reach]
    latency: list[Latency] = Field(
        description="what models of these sizes take on the workers that are there, as measured by earlier jobs; none "
        "yet: the same specification with 'probe': true measures it in about a minute, and trains nothing"
    )
    estimate: Estimate | None = Field(description="null where `units` is")
    says: list[str] = Field([], description="the plan in sentences, warnings and notes aside")
    warnings: list[str]
    notes: list[str] = Field(description="what was understood of texts and labels: a sentence each")
    understood: dict[str, Understood | None] = Field(description="what was understood of each data set, by its id")


class StatusChange(BaseModel):
    """A job has another status."""

    status: Status
    attempt: int | None = None
    reason: str | None = None


class Event(BaseModel):
    """Something that happened to a job."""

    seq: int = Field(description="grows with time; give the last one seen as `after`", examples=[42])
    type: str = Field(examples=["status", "stage", "progress", "note", "structure", "size", "latency"])
    data: Annotated[
        dict[str, Any],
        Described(
            StatusChange
            | messages.StageBegun
            | messages.StageProgress
            | messages.Note
            | messages.Fitted
            | messages.SizeTrained
            | messages.LatencyMeasured
        ),
    ] = Field(description="by `type`, which stands for `event`", examples=[{"status": "running", "attempt": 1}])
    at: datetime


class EventPage(BaseModel):
    """Events, oldest first."""

    items: list[Event]
    after: int = Field(description="give it as `after` to get what comes next", examples=[42])


class OutputFile(BaseModel):
    """A file to download."""

    path: str = Field(examples=["model.safetensors"])
    size_bytes: int = Field(examples=[4212345])
    sha256: Sha256
    media_type: str = Field(examples=["application/octet-stream"])
    href: str = Field(examples=["/v1/jobs/job_.../files/model.safetensors"])


class FileList(BaseModel):
    """Files of a job; empty until it has succeeded."""

    items: list[OutputFile]


class Key(BaseModel):
    """An API key, without its secret."""

    id: str = Field(examples=["key_0192f0c4d3e27a1b8c9d0e1f2a3b4c5d"])
    name: str = Field(examples=["nightly jobs"])
    scopes: list[Literal["read", "write", "admin"]]
    max_queued: int | None
    max_running: int | None
    max_stored_bytes: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class NewKey(Key):
    """An API key and its secret, which is shown this once."""

    secret: str = Field(description="send it as `Authorization: Bearer ...`", examples=["topwork_..."])


class KeyPage(BaseModel):
    """Keys, newest first."""

    items: list[Key]
    next: Cursor


class Series(BaseModel):
    """One curve."""

    stage: str = Field(description="with the size, of several", examples=["prune", "recover params-0.1"])
    name: str = Field(examples=["dev.accuracy"])
    points: list[tuple[int, float]] = Field(description="(step, value)", examples=[[[10, 0.71], [20, 0.78]]])


class Curves(BaseModel):
    """Curves of a job."""

    series: list[Series]


class Gpu(BaseModel):
    """A graphics processor."""

    name: str = Field(examples=["NVIDIA H200"])
    memory_bytes: int


class Device(BaseModel):
    """What a worker runs jobs on."""

    type: Literal["cuda", "cpu"]
    gpus: list[Gpu]
    cpu: str | None = Field(None, examples=["AMD EPYC 9654 96-Core Processor"])
    cpus: int = Field(examples=[16])
    memory_bytes: int


class Worker(BaseModel):
    """A worker process."""

    name: str = Field(examples=["gpu-3:4711"])
    slots: int = Field(description="jobs that it runs at the same time")
    busy: int = Field(description="jobs that it runs now")
    device: Device
    started_at: datetime
    seen_at: datetime


class WorkerList(BaseModel):
    """Workers that are there."""

    items: list[Worker]


class Model(BaseModel):
    """A local model, by the name to give as `model` in a job."""

    name: str = Field(examples=["all-minilm-l6-v2"])
    task: Literal["text", "image"] = Field(description="what it reads: texts, or pictures")
    architecture: str = Field(examples=["bert"])
    layers: int | None = Field(None, description="null where it reads pictures, and so are the next", examples=[6])
    heads: int | None = Field(
        None, description="attention heads in each layer; at most, if it is pruned", examples=[12]
    )
    neurons: int | None = Field(
        None, description="FFN neurons in each layer; at most, if it is pruned", examples=[1536]
    )
    hidden: int | None = Field(None, examples=[384])
    pruned: bool = Field(description="by an earlier job; a budget's parts are of what that has left", examples=[False])
    labels: list[str] = Field(
        description="that its head knows, in their order; empty: it has none", examples=[["negative", "positive"]]
    )
    reads: int | None = Field(None, description="tokens of a text, at most; null where it does not say", examples=[512])
    pixels: int | None = Field(None, description="of a picture's side, as its preprocessor says", examples=[224])
    encoder_params: int | None = Field(None, description="null where it reads pictures", examples=[10646784])
    model_params: int = Field(description="embeddings counted, task head not", examples=[22713216])
    size_bytes: int = Field(examples=[90868376])


class UnusableModel(BaseModel):
    """Something in the models folder that cannot be pruned as it is."""

    name: str = Field(examples=["my-lora"])
    reason: str = Field(description="what it is, and the mend", examples=["it has no config.json; write it with ..."])


class ModelList(BaseModel):
    """Models that are there without a download."""

    items: list[Model]
    unusable: list[UnusableModel]


class PruningMethod(BaseModel):
    """A pruning method, by the name to give as `method.name` in a job."""

    name: str = Field(examples=["fisher"])
    what: str = Field(description="what it does")
    needs: str
    cost: str = Field(description="beside fine-tuning and recovery")
    use: str = Field(description="when to use it")
    source: str = Field(description="where it comes from")
    trains: bool = Field(
        description="whether it takes steps in the prune stage; else its default recovery takes these, too (a third of "
        "both where over 15 % of the encoder are left)"
    )
    reads_rows: bool = Field(description="whether rows, and with them sources, have a say in what is dropped")
    sparsity: bool = Field(description="whether it takes a budget in 'sparsity', too")


class MethodList(BaseModel):
    """The pruning methods."""

    items: list[PruningMethod]


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Every part is there."""

    status: Literal["ready"] = "ready"
    parts: dict[str, str] = Field(examples=[{"database": "ok", "broker": "ok", "storage": "ok"}])
