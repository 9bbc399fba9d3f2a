"""`fisher`: units are scored once, by how answers depend on them (core/pruning/scoring/importance.py)."""

from __future__ import annotations

from core.pruning.methods import Scored
from core.pruning.scoring.importance import importance

FACTS = {
    "what": "scores units once, by what the fine-tuned model's answers owe to each, and cuts once",
    "needs": "text of the task or of any source; labels only to fine-tune the model",
    "cost": "40 batches forward and backward; no steps in the prune stage",
    "use": "the default; with 'train.steps.recover' 0 the cut is refitted by least squares, without training",
    "source": "after Kwon et al., NeurIPS 2022 (arXiv 2204.09656); the gradient of the logits is ours",
}
prune = Scored(importance)
