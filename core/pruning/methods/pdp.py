"""`pdp`: masks that follow from the weights, on units (masking/pdp.py) and on single weights (masking/sparsity.py)."""

from __future__ import annotations

from core.pruning.masking import pdp, sparsity

FACTS = {
    "what": "trains the weights under masks that follow from their own size, so that what is small is given up gently",
    "needs": "a few hundred steps in the prune stage",
    "cost": "a prune step costs what a fine-tuning step does, and less as the network shrinks",
    "use": "a budget in 'sparsity' without a pattern of N:M, where it is the default; for whole units, to compare",
    "source": "Cho, Adya, Naik, NeurIPS 2023 (arXiv 2305.11203); masks on whole units are our extension",
    "trains": True,
    "sparsity": True,
}
prune, zero = pdp.prune, sparsity.pdp
