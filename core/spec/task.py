"""The target task and its sources, and where their data lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from core.spec import shorthand
from core.spec.data import DatasetRef, Split, SplitRefs
from core.spec.strict import Strict, available

TextColumns = Annotated[
    Annotated[list[str], Field(max_length=8, json_schema_extra={"minItems": 0})],
    shorthand.ONE_COLUMN,
    Field(description="columns, or one; none where 'image' is one"),
]
IMAGES = "image-classification"  # the type of task whose rows are pictures
UNLABELLED = "/task/unlabelled"  # JSON pointer


ProblemType = Literal[
    "single_label_classification",
    "multi_label_classification",
    "regression",
    "token_classification",
    "text_embedding",
    "text_retrieval",
    "text_similarity",
    "text_ranking",
]
SEARCHING = ("sentence-similarity", "text-ranking")  # types of task whose label may be left out
VECTORS = ("text_embedding", "text_retrieval", "text_similarity")  # answers are vectors of texts
PAIRED = ("text_retrieval", "text_ranking")  # rows are of a query and its document
POOLED = ("text-classification", "text-ranking")  # types whose head reads a whole text
NUMBERED = ("regression", "text_similarity", "text_ranking")  # labels are numbers
# What can be selected by, the default first; higher is better.
METRICS: Mapping[str, tuple[str, ...]] = {
    "single_label_classification": ("accuracy", "balanced_accuracy", "f1"),
    "multi_label_classification": ("micro_f1", "macro_f1", "subset_accuracy"),
    "regression": ("pearson", "spearman", "r2"),
    "token_classification": ("entity_f1", "token_accuracy"),
    "text_embedding": ("cosine", "same_neighbours"),
    "text_retrieval": ("ndcg_at_10", "recall_at_10", "mrr"),
    "text_similarity": ("spearman", "pearson"),
    "text_ranking": ("ndcg_at_10", "mrr"),
}


def problem_of(type: str, text: Sequence[str], label: Any) -> ProblemType | None:
    """Give what is asked by a task of a type for searching, with these columns; None for another type."""
    if type == "text-ranking":
        return "text_ranking"
    if type == "sentence-similarity":
        return "text_similarity" if label is not None else "text_retrieval" if text[1:] else "text_embedding"
    return None


def _no_less_than_one(value: list[str]) -> list[str]:
    if not value:
        raise PydanticKnownError("too_short", {"field_type": "List", "min_length": 1, "actual_length": 0})
    return value


def _of_pictures(values: Any) -> Any:
    """What is given of rows that are pictures, without the empty 'text' that answers have."""
    if isinstance(values, dict) and values.get("image") is not None and values.get("text") in (None, []):
        return values | {"text": []}
    return values


def _problem(task: Mapping[str, Any]) -> ProblemType:
    if found := problem_of(task.get("type", ""), task.get("text", ()), task.get("label")):
        return found
    words: ProblemType | None = "token_classification" if task.get("type") == "token-classification" else None
    several: ProblemType | None = "multi_label_classification" if isinstance(task.get("label"), list) else None
    return words or several or task.get("problem_type") or "single_label_classification"


def _distinct(value: str | list[str]) -> str | list[str]:
    if isinstance(value, list) and len(set(value)) < len(value):
        raise PydanticCustomError("label", "names a column twice")
    return value


def _class_name(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("label_map", "is blank; give the name of a class, or null to leave the rows out")
    return value.strip()


ColumnName = Annotated[str, Field(min_length=1)]
LabelColumns = Annotated[
    Annotated[ColumnName, Tag("one")]
    | Annotated[list[ColumnName], Field(min_length=1, max_length=1000), Tag("several")],
    Discriminator(lambda value: "several" if isinstance(value, list) else "one"),
    Field(
        description="a column; or several, each of one label that applies or not (0 or 1, true or false, yes or no)",
        examples=["label", ["toxic", "insult"]],
    ),
    AfterValidator(_distinct),
]
LabelMap = Annotated[
    dict[
        Annotated[str, Field(max_length=200)], Annotated[str, Field(max_length=200), AfterValidator(_class_name)] | None
    ],
    Field(
        max_length=1000,
        description="a class, label or tag of the data, as the plan spells it -> its name in the task (several may "
        "become one), or null: rows that hold it are left out",
        examples=[{"LABEL_0": "toxic", "Positive": "positive", "-1": None}],
    ),
]


ImageColumn = Annotated[
    ColumnName | None,
    Field(description="of image-classification: the column of pictures ('image', if left out), instead of 'text'"),
]
TaskType = Literal[
    "text-classification", "token-classification", "sentence-similarity", "text-ranking", "image-classification"
]


class Unlabelled(Strict):
    """The target's own rows without labels, which the teacher labels; columns that are left out are the task's."""

    data: DatasetRef
    image: ImageColumn = None
    text: TextColumns = []

    @model_validator(mode="before")
    @classmethod
    def _without_labels(cls, values: Any) -> Any:
        if isinstance(values, dict) and {"label", "label_map"} & {*values}:
            raise PydanticCustomError(
                "/task/unlabelled/label",
                "rows of 'unlabelled' are read without labels: leave it out, or give labelled rows in 'data'",
            )
        return values

    @field_validator("text")
    @classmethod
    def _one_of_both(cls, value: list[str], own: ValidationInfo) -> list[str]:
        if value and own.data.get("image") is not None:
            raise PydanticCustomError("text", "give 'text', or 'image' where rows are pictures, and not both")
        return value

    @property
    def source(self) -> Source:
        """The same rows as something to transfer from."""
        return Source(data=self.data, image=self.image, text=self.text)


class TaskSpec(Strict):
    """The target task: one text column is a single text, two are a pair; or rows are pictures, of a column 'image'."""

    type: Annotated[
        TaskType,
        available("task type", get_args(TaskType), ("question-answering", "causal-lm")),
        Field(
            description="sentence-similarity: vectors of texts; of one column ('text') the model's own are kept, of "
            "two (a query and its document; further columns: documents that do not belong to it) those that belong "
            "together come close, and 'label' may be a column of scores. text-ranking: a score for a query and a "
            "document. image-classification: classes, or several labels, of pictures"
        ),
    ] = "text-classification"
    problem_type: Annotated[
        Literal["single_label_classification", "multi_label_classification", "regression"] | None,
        Field(
            description="of text-classification, and (without regression) image-classification; left out: "
            "single_label_classification"
        ),
    ] = None
    data: DatasetRef | SplitRefs
    split: Split = Split()
    image: Annotated[ImageColumn, Field(validate_default=True)] = None
    augment: Annotated[
        bool | None,
        Field(
            description="of image-classification: train on pictures that are mirrored, shifted and cropped at random, "
            "too (true, if left out); false where that would change what they show, as of digits"
        ),
    ] = None
    text: TextColumns = Field(["text"], validate_default=True)
    label: LabelColumns | None = Field(
        "label", description="left out: 'label'; of sentence-similarity and text-ranking: none"
    )
    label_map: LabelMap = {}
    unlabelled: Annotated[
        Unlabelled | None,
        Field(
            description="the target's own texts (or pictures) without labels, to transfer from: as good as a large "
            "labelled source"
        ),
    ] = None
    dimensions: Annotated[
        list[Annotated[int, Field(ge=1, le=2**16)]],
        Field(
            max_length=4,
            description="of sentence-similarity: so many first dimensions of each vector are to serve alone, too "
            "(vectors are turned for that, which changes no cosine of whole ones), and are measured",
            examples=[[64, 128]],
        ),
    ] = []
    metric: Annotated[
        str,
        Field(
            min_length=1,
            description="what is selected by, on dev; left out: the first of its problem's. "
            + "; ".join(f"{problem}: {', '.join(names)}" for problem, names in METRICS.items()),
        ),
    ] = ""

    @property
    def problem(self) -> ProblemType:
        """What is answered, in transformers' words where it has one."""
        return _problem({name: getattr(self, name) for name in ("type", "problem_type", "text", "label")})

    @property
    def by_class(self) -> bool:
        """Whether each text has one of several classes."""
        return self.image is None and self.problem == "single_label_classification"

    @property
    def columns(self) -> list[str]:
        """The columns that rows are read from, beside the labels."""
        return self.text if self.image is None else [self.image]

    @property
    def encoded(self) -> int:
        """How many texts of a row are encoded, each for itself; 1 where all of a row are read together."""
        return len(self.text) if self.problem in VECTORS else 1

    def problem_of(self, source: Source) -> ProblemType:
        """What a source's rows are asked: as the target's, but for columns of its own where texts are compared."""
        return problem_of(self.type, source.text, source.label) or self.problem

    @property
    def label_columns(self) -> list[str]:
        """The column of labels, or the column of each label; none of texts alone."""
        return columns_of(self.label)

    @model_validator(mode="before")
    @classmethod
    def _unlabelled(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("type") in SEARCHING:
            return {"label": None} | values
        if isinstance(values, dict) and values.get("type") == IMAGES:
            given = {name: value for name, value in values.items() if value is not None or name == "label"}
            return _of_pictures({"image": "image", "augment": True} | given)
        return values

    @field_validator("problem_type")
    @classmethod
    def _of_texts(cls, value: str | None, task: ValidationInfo) -> str | None:
        kind = task.data.get("type")
        if kind == IMAGES and value == "regression":
            raise PydanticCustomError("problem_type", f"{kind} is of one class, or of several labels: no numbers")
        if value is not None and kind is not None and kind not in ("text-classification", IMAGES):
            raise PydanticCustomError("problem_type", f"is for text-classification: leave it out for {kind}")
        return value

    @field_validator("image", "augment")
    @classmethod
    def _of_images(cls, value: Any, task: ValidationInfo) -> Any:
        if value is not None and task.data.get("type") not in (None, IMAGES):
            raise PydanticCustomError("image", f'is of pictures: leave it out, or give "type": "{IMAGES}"')
        return value

    @field_validator("text")
    @classmethod
    def _columns(cls, value: list[str], task: ValidationInfo) -> list[str]:
        kind = task.data.get("type")
        if kind == IMAGES and value:
            raise PydanticCustomError("text", f"{IMAGES} reads pictures, of the column 'image': leave 'text' out")
        if kind != IMAGES:
            _no_less_than_one(value)
        if len(value) > 1 and kind == "token-classification":
            raise PydanticCustomError("text", "token-classification reads one column, of arrays of words")
        if len(value) > 2 and kind == "text-classification":
            raise PydanticCustomError("text", "text-classification reads one column, or two: a pair of texts")
        if len(value) < 2 and kind == "text-ranking":
            raise PydanticCustomError("/task/text", "text-ranking reads two columns: the query, and the document")
        return value

    @field_validator("label")
    @classmethod
    def _several(cls, value: str | list[str] | None, task: ValidationInfo) -> str | list[str] | None:
        kind = task.data.get("type")
        if value is None and kind is not None and kind not in SEARCHING:
            raise PydanticCustomError("label", f"{kind} learns from labels: name their column")
        if kind in SEARCHING and isinstance(value, list):
            raise PydanticCustomError("label", f"{kind} takes one column of numbers, or none")
        if kind in SEARCHING and value is not None and len(task.data.get("text", ())) != 2:
            raise PydanticCustomError("label", "scores are of two texts each: give two columns in 'text', or no label")
        given = "token-classification" if kind == "token-classification" else None
        given = given or task.data.get("problem_type") or "multi_label_classification"
        if isinstance(value, list) and given != "multi_label_classification":
            raise PydanticCustomError("label", f"several columns are of a multi_label_classification, not {given}")
        return value

    @field_validator("unlabelled")
    @classmethod
    def _of_own_columns(cls, value: Unlabelled | None, task: ValidationInfo) -> Unlabelled | None:
        if value is None or value.image is not None or value.text or not {"image", "text"} <= {*task.data}:
            return value
        return value.model_copy(update={name: task.data[name] for name in ("image", "text")})

    @field_validator("dimensions")
    @classmethod
    def _of_vectors(cls, value: list[int], task: ValidationInfo) -> list[int]:
        if value and task.data.get("type") not in (None, "sentence-similarity"):
            raise PydanticCustomError(
                "dimensions", "are of vectors, which sentence-similarity alone gives: leave it out"
            )
        return sorted({*value})

    @field_validator("label_map")
    @classmethod
    def _renaming(cls, value: dict[str, str | None], task: ValidationInfo) -> dict[str, str | None]:
        if value and "label" in task.data and task.data["label"] is None:
            raise PydanticCustomError("label_map", "renames labels: give 'label', too")
        return value

    @field_validator("metric")
    @classmethod
    def _fits(cls, value: str, task: ValidationInfo) -> str:
        if not {"type", "problem_type", "text", "label"} <= {*task.data}:  # which are at fault themselves
            return value
        problem = _problem(task.data)
        if value not in METRICS[problem]:
            known = ", ".join(f"'{name}'" for name in METRICS[problem])
            raise PydanticCustomError("metric", f"is no metric of a {problem} task; give one of {known}")
        return value

    @model_validator(mode="after")
    def _default_metric(self) -> Self:
        object.__setattr__(self, "metric", self.metric or METRICS[self.problem][0])
        return self


class Source(Strict):
    """Related data to transfer from; `label` null means texts, or pictures, without labels."""

    data: DatasetRef
    image: ImageColumn = None
    text: TextColumns = ["text"]
    label: LabelColumns | None = None
    label_map: LabelMap = {}
    weight: Annotated[float, Field(ge=1e-6, le=100, description="of its loss, beside the target's 1")] = 1.0

    @model_validator(mode="before")
    @classmethod
    def _pictures(cls, values: Any) -> Any:
        return _of_pictures(values)

    @field_validator("text")
    @classmethod
    def _one_of_both(cls, value: list[str], source: ValidationInfo) -> list[str]:
        if source.data.get("image") is None:
            return _no_less_than_one(value)
        if value:
            raise PydanticCustomError("text", "give 'text', or 'image' where rows are pictures, and not both")
        return value

    @property
    def columns(self) -> list[str]:
        """The columns that rows are read from, beside the labels."""
        return self.text if self.image is None else [self.image]

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        if self.label_map and self.label is None:
            raise PydanticCustomError("label_map", "'label_map' renames labels: give 'label', too")
        return self

    @property
    def label_columns(self) -> list[str]:
        """The column of labels, or the column of each label; none of text alone."""
        return columns_of(self.label)


def columns_of(label: str | list[str] | None) -> list[str]:
    """The columns that a field `label` names."""
    return [] if label is None else [label] if isinstance(label, str) else label
