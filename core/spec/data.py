"""Where the rows of a task lie, and how they are split."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from core.spec.strict import Strict


def _hub_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w.-]+(/[\w.-]+)*)?", value) or ".." in value:
        raise PydanticCustomError(
            "hub_name", "is no data set of a hub; give 'owner/name' or 'owner/name@revision', a branch, tag or commit"
        )
    return value


DATASET_ID = re.compile("ds_[0-9a-f]{32}").fullmatch
HUB_PART = r"^[^/\x00-\x1f]{1,100}$"
HubPart = Annotated[str, Field(pattern=HUB_PART)]


class DatasetRef(Strict):
    """A data set: one of yours, or a public one of a hub, which becomes one of yours when it is fetched."""

    dataset: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=200,
            description="its id; or the name of its file, where no other has it: an answer has the id",
            examples=["ds_0192f0c1e0a77c5fb0a6c3a1d2e4f5a6", "reviews.csv"],
        ),
    ] = None
    hub: Annotated[
        str | None,
        Field(
            max_length=200,
            description="owner/name@revision; beside `dataset`, in an answer: where that came from, at which commit",
            examples=["stanfordnlp/imdb@main"],
        ),
        AfterValidator(lambda value: value and _hub_name(value)),
    ] = None
    config: Annotated[HubPart | None, Field(description="of `hub`; left out: its only one, or its default")] = None
    split: Annotated[
        HubPart | None,
        Field(description="of `hub`; left out: 'train', for data.dev 'validation', for data.test 'test'"),
    ] = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.dataset is None and self.hub is None:
            raise PydanticCustomError(
                "data", "give 'dataset', an id that POST /v1/datasets gave, or 'hub', as in 'owner/name@revision'"
            )
        if self.hub is None and (self.config or self.split):
            raise PydanticCustomError("data", "'config' and 'split' are of a hub's data set: give 'hub' with them")
        return self

    @property
    def id(self) -> str:
        """Id of the data set, which a hub's has once it is fetched."""
        assert self.dataset is not None
        return self.dataset


class SplitRefs(Strict):
    """A data set for each split; a missing one is held out of `train`."""

    train: DatasetRef
    dev: DatasetRef | None = None
    test: DatasetRef | None = None


def _size(value: int | float) -> int | float:
    if isinstance(value, float) and not 0 < value < 1:
        raise PydanticCustomError("split_size", "a fraction lies between 0 and 1; give a whole number for a row count")
    if isinstance(value, int) and value < 1:
        raise PydanticCustomError("split_size", "a row count is at least 1")
    return value


Size = Annotated[int | float, AfterValidator(_size)]


class Split(Strict):
    """Row counts (whole numbers) or fractions of the rows; left out, `train` means 0.6, and `test` what is left.

    Where `data` names a train set of its own, `train` left out means all of it, and `test` a fifth.
    """

    train: Size | None = None
    dev: Size = 0.2
    test: Size | None = None

    @model_validator(mode="after")
    def _sum(self) -> Self:
        fractions = [s for s in (self.train, self.dev, self.test) if isinstance(s, float)]
        if sum(fractions) > 1 + 1e-9:
            raise PydanticCustomError("/task/split", f"fractions add up to {sum(fractions):g}, over 1")
        return self
