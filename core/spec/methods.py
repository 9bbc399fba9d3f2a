"""The pruning methods in words: what each needs, what it costs, when to use it. `GET /v1/methods` answers from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class MethodFacts:
    """One method. What it does is in core/pruning/methods.py, under the same name."""

    name: str
    what: str
    needs: str
    cost: str
    use: str  # when to
    source: str
    trains: bool = False  # while it prunes: it takes steps in the prune stage; others leave them to recovery by default
    reads_rows: bool = True  # its choice of units depends on the rows, so that sources may enter it
    sparsity: bool = False  # can zero single weights, too


METHODS: Mapping[str, MethodFacts] = {
    facts.name: facts
    for facts in (
        MethodFacts(
            "fisher",
            "scores units once, by what the fine-tuned model's answers owe to each, and cuts once",
            "text of the task or of any source; labels only to fine-tune the model",
            "40 batches forward and backward; no steps in the prune stage",
            "the default; with 'train.steps.recover' 0 the cut is refitted by least squares, without training",
            "after Kwon et al., NeurIPS 2022 (arXiv 2204.09656); the gradient of the logits is ours",
        ),
        MethodFacts(
            "l0",
            "learns hard-concrete masks on units and blocks together with the weights, under a Lagrangian on the size",
            "a few hundred steps in the prune stage",
            "a prune step costs what a fine-tuning step does, and less as the network shrinks",
            "coupling 'tied', where each task has masks of its own; or to compare with CoFi",
            "Louizos et al., ICLR 2018 (arXiv 1712.01312); Xia et al., ACL 2022 (arXiv 2204.00408)",
            trains=True,
        ),
        MethodFacts(
            "pdp",
            "trains the weights under masks that follow from their own size, so that what is small is given up gently",
            "a few hundred steps in the prune stage",
            "a prune step costs what a fine-tuning step does, and less as the network shrinks",
            "a budget in 'sparsity'; for whole units, to compare",
            "Cho, Adya, Naik, NeurIPS 2023 (arXiv 2305.11203); masks on whole units are our extension",
            trains=True,
            sparsity=True,
        ),
        MethodFacts(
            "magnitude",
            "drops the units whose weights are smallest in the fine-tuned model, heads and neurons in like shares",
            "nothing but the fine-tuned model",
            "none; no steps in the prune stage",
            "a control: what a method must beat",
            "root mean square of a unit's weights, as in common libraries",
            reads_rows=False,
            sparsity=True,
        ),
        MethodFacts(
            "random",
            "drops units at random, by the seed",
            "nothing",
            "none; no steps in the prune stage",
            "a control: what recovery alone is worth",
            "after Prasanna et al., EMNLP 2020 (arXiv 2005.00561)",
            reads_rows=False,
        ),
    )
}
