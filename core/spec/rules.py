"""What of a job specification goes together: each rule raises PydanticCustomError, its type the JSON pointer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_core import PydanticCustomError

from core.spec.methods import METHODS, MethodFacts
from core.spec.task import IMAGES, POOLED, SEARCHING, VECTORS, Source

if TYPE_CHECKING:
    from core.spec.job import JobSpec


def require(spec: JobSpec) -> None:
    """Every rule."""
    coupled(spec)
    modality(spec)
    methodical(spec)
    placed(spec)


def coupled(spec: JobSpec) -> None:
    """Coupling and sources suit each other."""
    coupling, searching = spec.coupling, spec.task.type in SEARCHING
    labelled = all(has_labels(spec, source) for source in spec.borrowed.values())
    if coupling != "none" and not spec.borrowed:
        raise PydanticCustomError(
            "/transfer/coupling", f"coupling '{coupling}' needs at least one entry in 'sources', or 'task.unlabelled'"
        )
    if coupling in ("sequential", "joint", "tied") and spec.task.unlabelled:
        raise PydanticCustomError(
            "/transfer/coupling",
            f"coupling '{coupling}' learns from labels alone: use 'teacher' (which learns those of 'sources' first) or "
            "'auto', or leave 'task.unlabelled' out",
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
            f"coupling 'auto' tries what labels teach; for {spec.task.type} name a coupling, such as 'teacher'",
        )
    for pointer, source in spec.borrowed.items():
        require_alike(spec, pointer, source)
    if coupling == "auto" and len(spec.transfer.share) < 2:
        raise PydanticCustomError(
            "/transfer/coupling",
            "coupling 'auto' tries what shares weights and masks; name a coupling to share one alone",
        )
    if coupling in ("auto", "teacher") and spec.transfer.active == ["teach"] and not labelled:
        raise PydanticCustomError(
            "/transfer/stages",
            "text without labels cannot enter the 'teach' stage, where there is no teacher yet; add 'prune' or "
            "'recover' to 'stages'",
        )
    if coupling == "none" and spec.transfer.weighting == "learned":
        raise PydanticCustomError(
            "/transfer/weighting",
            "weighting 'learned' weighs sources: give at least one in 'sources', or 'task.unlabelled'",
        )
    if spec.control and coupling == "none":
        raise PydanticCustomError("/control", "'control' is the job without transfer, and this job has none")


def has_labels(spec: JobSpec, source: Source) -> bool:
    """Whether a source teaches more than what its texts say; two texts that belong together do."""
    return source.label is not None or (spec.task.type in SEARCHING and len(source.text) > 1)


def require_alike(spec: JobSpec, pointer: str, source: Source) -> None:
    """A source is read as the target is."""
    searching = spec.task.type in SEARCHING
    if (source.image is None) != (spec.task.image is None):
        detail = "pictures: give 'image'" if spec.task.image else "texts: give 'text'"
        raise PydanticCustomError(
            f"{pointer}/{'image' if source.image else 'text'}",
            f"a source of {spec.task.type} is of {detail}, the column of them, instead",
        )
    most, least = (8, 1) if searching else (2, 1)
    if spec.task.type == "text-ranking":
        least = 2
    if source.image is None and not least <= len(source.text) <= most:
        raise PydanticCustomError(
            f"{pointer}/text", f"a source of {spec.task.type} has {least} to {most} columns of text"
        )
    if searching and source.label is not None and len(source.text) != 2:
        raise PydanticCustomError(
            f"{pointer}/label", "scores are of two texts each: give two columns in 'text', or no label"
        )
    if isinstance(source.label, list) and spec.task.problem != "multi_label_classification":
        raise PydanticCustomError(
            f"{pointer}/label",
            f"several columns are of a multi_label_classification, not {spec.task.problem}",
        )


def modality(spec: JobSpec) -> None:
    """Pictures and texts each have fields of their own."""
    if spec.task.type != IMAGES and spec.train.image_size is not None:
        raise PydanticCustomError(
            "/train/image_size", f"is of pictures, and {spec.task.type} reads texts: leave it out"
        )
    if spec.task.type == IMAGES and spec.vocabulary == "trim":
        raise PydanticCustomError("/vocabulary", "is of texts, and image-classification reads pictures: leave it out")
    if spec.task.type != IMAGES and spec.channels is not None:
        raise PydanticCustomError("/channels", f"are of image models, and {spec.task.type} reads texts: leave it out")
    if spec.task.type == IMAGES:
        of_channels(spec)
    if spec.train.contrastive is True and not spec.task.by_class:
        raise PydanticCustomError(
            "/train/contrastive", "draws rows of one class together: it is of texts that have one of several classes"
        )
    if spec.train.contrastive is True and spec.teaches_mixed:
        raise PydanticCustomError(
            "/train/contrastive",
            f"has no place where '{spec.coupling}' mixes tasks in each batch of 'teach': leave it out",
        )
    if spec.pooling != "auto" and spec.task.type not in POOLED:
        raise PydanticCustomError(
            "/pooling", f"is where a head reads a whole text, and {spec.task.type} has no such head: leave it out"
        )


def of_channels(spec: JobSpec) -> None:
    """Nothing is asked for that only transformers of texts have."""
    if spec.hidden_size == "trim":
        raise PydanticCustomError("/hidden_size", "is of transformers of texts: leave it out")
    if spec.export.layout != "free":
        raise PydanticCustomError("/export/layout", "no plain config.json can say widths of channels: leave it out")
    if "onnx-int8" in spec.onnx_formats:
        raise PydanticCustomError(
            "/budget/runtime" if spec.budget.runtime == "onnx-int8" else "/export/formats",
            "convolutions of 8 bits lose points, and those that are quantised as they run are slower than float32 ones "
            "(docs/methods/files.md): give 'onnx' instead",
        )
    if spec.budget.sequence_length is not None:
        raise PydanticCustomError(
            "/budget/sequence_length", "is of texts: give 'train.image_size' for pictures of another size"
        )
    if spec.own_readers and spec.budget.sparsity is not None:
        raise PydanticCustomError(
            "/channels/readers", "no channel goes where 'sparsity' zeroes single weights: leave it out"
        )
    if spec.own_readers and METHODS[spec.method.name].trains:
        scoring = ", ".join(f"'{name}'" for name, facts in METHODS.items() if not facts.trains)
        raise PydanticCustomError(
            "/channels/readers",
            f"'own' is of methods that score once, and '{spec.method.name}' learns masks that all readers share: "
            f"say 'shared', or name one of {scoring}",
        )
    if spec.budget.of == "encoder":
        raise PydanticCustomError("/budget/of", "of image models the whole is counted: leave it out")


def methodical(spec: JobSpec) -> None:
    """The method can do what is asked."""
    method = METHODS[spec.method.name]
    if spec.coupling == "tied" and method.name != "l0":
        raise PydanticCustomError(
            "/method/name",
            "coupling 'tied' pulls learned masks together: it needs method 'l0', where masks are learned",
        )
    if not method.trains and spec.train.steps.prune is not None:
        raise PydanticCustomError(
            "/train/steps/prune",
            f"method '{method.name}' trains nothing while it prunes: leave 'steps.prune' out, or use a method that "
            f"does: {', '.join(name for name, facts in METHODS.items() if facts.trains)}",
        )
    transferred(spec, method)
    if spec.budget.sparsity is not None:
        sparse(spec)
    if spec.export.layout != "free" and method.trains:
        raise PydanticCustomError(
            "/method/name",
            f"method '{method.name}' masks single units while it trains, which no plain config.json can say: for "
            f"'layout' '{spec.export.layout}' use a method that scores once: "
            + ", ".join(name for name, facts in METHODS.items() if not facts.trains),
        )
    if spec.hidden_size == "trim":
        narrow(spec)
    untrained(spec)
    if spec.task.problem == "regression" and spec.export.precision != "float32":
        raise PydanticCustomError(
            "/export/precision",
            f"a number is answered in the labels' own unit, of which '{spec.export.precision}' has three digits: "
            "leave 'precision' out",
        )


def transferred(spec: JobSpec, method: MethodFacts) -> None:
    """What is asked of the sources can be done in some stage."""
    if spec.coupling == "none":
        return
    unlearned = set() if method.trains else {"prune"}  # where no weights are trained
    active, untaught = set(spec.transfer.active), nothing_to_teach(spec) if "teach" in spec.transfer.active else ""
    if untaught:
        active.remove("teach")
    if not active:  # which is refused for that
        return
    if active == unlearned and not method.reads_rows:
        raise PydanticCustomError(
            "/method/name",
            f"no row has a say in what method '{method.name}' drops, so that nothing can be transferred in the "
            f"'prune' stage alone{untaught}: share 'weights' in other stages, or use method "
            + ("'pdp'" if spec.budget.sparsity is not None else "'fisher'"),
        )
    if active == unlearned and "masks" not in spec.transfer.share and spec.train.steps.recover != 0:
        raise PydanticCustomError(
            "/transfer/share",
            f"method '{method.name}' trains no weights in the 'prune' stage, so that nothing can be transferred "
            f"there without 'masks'{untaught}: share these, too, or add 'recover' to 'stages'",
        )
    apart = {"teach"} if spec.coupling in ("auto", "teacher") else set()  # first the sources, then the target
    if spec.transfer.weighting == "learned" and not active - unlearned - apart:
        raise PydanticCustomError(
            "/transfer/weighting",
            "weighting 'learned' needs source and target in one batch that trains weights, and no stage of this "
            f"transfer has one{untaught}: leave it out, or add 'recover' to 'stages'",
        )


def nothing_to_teach(spec: JobSpec) -> str:
    """Why nothing can be transferred in the stage 'teach', as it is said in brackets; else nothing."""
    if spec.task.problem in VECTORS and not spec.train.steps.teach:
        return " ('teach' has no steps for text vectors unless 'steps.teach' gives them)"
    distilled = spec.coupling in ("auto", "teacher")
    if distilled and not any(has_labels(spec, source) for source in spec.borrowed.values()):
        return " (in 'teach', where there is no teacher yet, text without labels says nothing)"
    return ""


def narrow(spec: JobSpec) -> None:
    """Hidden dimensions can go."""
    if METHODS[spec.method.name].trains:
        raise PydanticCustomError(
            "/method/name",
            f"method '{spec.method.name}' has no masks on hidden dimensions: for 'hidden_size' 'trim' use one that "
            "scores once: " + ", ".join(name for name, facts in METHODS.items() if not facts.trains),
        )
    if spec.budget.timed or spec.budget.sparsity is not None:
        raise PydanticCustomError(
            "/hidden_size", "'hidden_size' 'trim' is for budgets in 'params', 'macs' or 'bytes': leave it out"
        )
    if spec.export.layout != "free":
        raise PydanticCustomError(
            "/export/layout",
            "no plain config.json can say a hidden size that is not its heads': leave 'layout' out",
        )


def untrained(spec: JobSpec) -> None:
    """A stage without steps is asked for nothing."""
    left_out = [stage for stage in ("teach", "recover") if getattr(spec.train.steps, stage) == 0]
    if spec.task.problem == "regression" and "teach" in left_out:
        raise PydanticCustomError(
            "/train/steps/teach",
            "'steps.teach' is 0, but nothing says in what unit a model's own head gives numbers: leave it out",
        )
    alone = spec.coupling not in ("none", "auto") and [*spec.transfer.active] == ["teach"]
    if alone and spec.task.problem in VECTORS and not spec.train.steps.teach:
        raise PydanticCustomError(
            "/transfer/stages",
            "nothing can enter the 'teach' stage alone, which has no steps for text vectors unless 'steps.teach' gives "
            "them: name 'prune' or 'recover', too, or leave 'stages' out",
        )
    for stage in left_out:
        if stage == "teach" and spec.task.problem in VECTORS:  # which have none, unless it is asked for
            continue
        if spec.coupling == "auto":
            raise PydanticCustomError(
                "/transfer/coupling",
                f"coupling 'auto' tries the '{stage}' stage, which has 0 steps here: name a coupling",
            )
        if spec.coupling != "none" and stage in spec.transfer.active:
            raise PydanticCustomError(
                "/transfer/stages",
                f"nothing can enter the '{stage}' stage, which has 0 steps: give 'stages' without it",
            )


def placed(spec: JobSpec) -> None:
    """Some worker can hold it."""
    if spec.resources.device == "cpu" and spec.budget.device == "cuda":
        raise PydanticCustomError(
            "/resources",
            "the budget's latency is of a GPU, which a worker with device 'cpu' has not: leave one 'device' out",
        )
    if (spec.resources.gpus or 1) > spec.train.batch_size:
        raise PydanticCustomError(
            "/resources/gpus",
            f"'gpus' share each batch, which has {spec.train.batch_size} rows: give no more than that",
        )


def sparse(spec: JobSpec) -> None:
    """Zeros in place of units."""
    if spec.export.layout != "free":
        raise PydanticCustomError(
            "/export/layout",
            "a budget in 'sparsity' keeps every shape, and loads with no code as it is: leave 'layout' out",
        )
    able = [name for name, facts in METHODS.items() if facts.sparsity]
    if spec.method.name not in able:
        raise PydanticCustomError(
            "/method/name",
            f"method '{spec.method.name}' drops whole units; for a budget in 'sparsity' use {' or '.join(able)}",
        )
    if spec.coupling == "auto":
        raise PydanticCustomError(
            "/transfer/coupling",
            "coupling 'auto' tries cuts of whole units; with a budget in 'sparsity' name a coupling",
        )
    if len(spec.transfer.share) < 2:
        raise PydanticCustomError(
            "/transfer/share", "with a budget in 'sparsity' masks are the weights themselves: share both"
        )
