"""The budget of a job: a limit on exactly one cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from core.spec import shorthand
from core.spec.strict import Strict


def _amount(value: int | float) -> int | float:
    if value > 1 and value != int(value):
        raise PydanticCustomError("amount", "above 1 it is a count: give a whole number")
    return value


MAX_AMOUNT = 2**50  # no model that fits into a machine comes near it
Amount = Annotated[int | float, Field(gt=0, le=MAX_AMOUNT), AfterValidator(_amount)]


Kind = Literal["params", "macs", "bytes", "latency_ms", "speedup", "sparsity"]
Runtime = Literal["torch", "torch.compile", "onnx", "onnx-int8"]
Pattern = Literal["unstructured", "2:4", "1:4", "channel"]
GROUPS: Mapping[str, tuple[int, int]] = {"2:4": (2, 4), "1:4": (1, 4)}  # so many of so many stay


MOST_SIZES = 8


class Budget(Strict):
    """A limit on exactly one cost.

    Counts (params, macs, bytes): up to 1 a fraction of what the dense model costs, above it a whole number.
    """

    params: Annotated[
        Amount | None, shorthand.PARAMS, Field(description="parameters, of the encoder or of the whole model")
    ] = None
    macs: Annotated[
        Amount | None,
        shorthand.PARAMS,
        Field(description="multiply-accumulates for one text of `sequence_length` tokens"),
    ] = None
    bytes: Annotated[
        Amount | None,
        shorthand.BYTE_COUNT,
        Field(description="size of model.safetensors, in export.precision; a fraction is of the dense one in float32"),
    ] = None
    sparsity: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | None,
        shorthand.ZEROS,
        Field(description="share of the weights in the encoder's matrices that become zero; shapes stay"),
    ] = None
    pattern: Annotated[
        Pattern | None,
        Field(description="of 'sparsity': which weights go together; N:M leaves N of M in a row; left out: any"),
    ] = None
    of: Annotated[
        Literal["encoder", "model"] | None,
        Field(
            description="what is counted; left out: the encoder for 'params' and 'sparsity'. Other costs count the "
            "whole model, and so do all of image models"
        ),
    ] = None
    sequence_length: Annotated[
        int | None, Field(ge=1, le=512, description="tokens, for 'macs' and latencies; left out: train.max_length")
    ] = None
    latency_ms: Annotated[
        Annotated[float, Field(gt=0, le=3_600_000)] | None,
        shorthand.MILLISECONDS,
        Field(description="of a pass of `batch_size` texts of `sequence_length` tokens, measured"),
    ] = None
    speedup: Annotated[
        Annotated[float, Field(gt=1, le=1_000_000)] | None,
        shorthand.SPEEDUP,
        Field(description="dense over pruned latency, measured as for `latency_ms`"),
    ] = None
    batch_size: Annotated[int | None, Field(ge=1, le=1024, description="texts, for latencies; left out: 1")] = None
    device: Annotated[
        Literal["cpu", "cuda"] | None, Field(description="for latencies; left out: what the worker has")
    ] = None
    runtime: Annotated[
        Runtime | None,
        Field(
            description="for latencies: eager PyTorch (left out), compiled, or ONNX Runtime, all in float32; or ONNX "
            "Runtime in int8, dense and pruned, whose file is then exported"
        ),
    ] = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in get_args(Kind) if getattr(self, name) is not None]
        if len(given) != 1:
            names = ", ".join(f"'{name}'" for name in get_args(Kind))
            raise PydanticCustomError("budget", f"give exactly one of {names}; given: {', '.join(given) or 'none'}")
        if self.pattern is not None and self.sparsity is None:
            raise PydanticCustomError("budget", "'pattern' is of zeros: give 'sparsity' with it")
        stay, size = GROUPS.get(self.pattern or "", (0, 0))
        if size and self.sparsity != 1 - stay / size:
            raise PydanticCustomError(
                "budget", f"pattern '{self.pattern}' is a 'sparsity' of {1 - stay / size:g}: give that"
            )
        if self.of == "model" and self.sparsity is not None:
            raise PydanticCustomError("budget", "'sparsity' counts the encoder's matrices: leave 'of' out")
        if self.of == "encoder" and self.kind not in ("params", "sparsity"):
            raise PydanticCustomError("budget", f"'{self.kind}' counts the whole model: leave 'of' out")
        if self.sequence_length is not None and self.kind in ("params", "bytes", "sparsity"):
            raise PydanticCustomError("budget", f"'{self.kind}' does not depend on a length: leave it out")
        if self.runtime == "onnx-int8" and self.device == "cuda":
            raise PydanticCustomError(
                "budget", "runtime 'onnx-int8' is of CPUs: leave 'device' out, or choose runtime 'onnx'"
            )
        idle = [name for name in ("batch_size", "device", "runtime") if getattr(self, name) is not None]
        if idle and not self.timed:
            raise PydanticCustomError(
                "budget", f"'{idle[0]}' is for 'latency_ms' and 'speedup'; '{self.kind}' does not depend on it"
            )
        return self

    @property
    def counted(self) -> Literal["encoder", "model"]:
        """What is counted, once the default is filled in."""
        return self.of or ("encoder" if self.kind in ("params", "sparsity") else "model")

    @property
    def kind(self) -> Kind:
        """The cost that is limited."""
        return next(name for name in get_args(Kind) if getattr(self, name) is not None)

    @property
    def timed(self) -> bool:
        """Whether the limit is on a latency, which is measured, not counted."""
        return self.kind in ("latency_ms", "speedup")

    @property
    def value(self) -> int | float:
        """The limit as it was asked for."""
        value: int | float = getattr(self, self.kind)
        return value

    @property
    def name(self) -> str:
        """What a size of a family is called, also as a folder: params-0.1."""
        of = "-of-model" if self.kind == "params" and self.of == "model" else ""
        return f"{self.kind}-{self.value:.12g}{of}{f'-{self.pattern}'.replace(':', 'of') if self.pattern else ''}"

    @property
    def conditions(self) -> tuple[object, ...]:
        """What a latency depends on, but for the model."""
        return self.runtime or "torch", self.device, self.batch_size or 1, self.sequence_length

    def limit(self, dense: int) -> int:
        """The limit of a cost that is counted, given what the dense model costs."""
        return int(self.value * dense) if self.value <= 1 else int(self.value)


def of_size(pointer: str, i: int) -> str:
    """A JSON pointer into a size's own specification, as one into that of the family whose size number `i` it is."""
    return f"/budgets/{i}{pointer.removeprefix('/budget')}" if pointer.startswith("/budget/") else pointer


def require_family(budgets: Sequence[Budget]) -> None:
    """Raise PydanticCustomError, its type the JSON pointer, where budgets are no family: sizes that have an order."""
    kinds = {budget.kind for budget in budgets}
    if "sparsity" in kinds and len(kinds) > 1:
        raise PydanticCustomError(
            "/budgets", "zeros keep every shape, and have no order among sizes that are cut: post 'sparsity' by itself"
        )
    if len({budget.conditions for budget in budgets if budget.timed}) > 1:
        raise PydanticCustomError(
            "/budgets",
            "milliseconds of different runtimes, devices, batches or lengths have no order: give all latencies the "
            "same, and a job to each other one",
        )
    if len({budget.sequence_length for budget in budgets if budget.kind == "macs"}) > 1:
        raise PydanticCustomError(
            "/budgets",
            "multiply-accumulates of different lengths have no order: give all the same 'sequence_length', and a job "
            "to each other one",
        )
    where: dict[str, int] = {}
    for i, budget in enumerate(budgets):
        if (first := where.setdefault(budget.name, i)) != i:
            raise PydanticCustomError(f"/budgets/{i}", f"is the size at /budgets/{first} again: leave one out")
