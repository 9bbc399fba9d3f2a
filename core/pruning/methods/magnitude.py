"""`magnitude`: what is small goes, units (core/pruning/scoring/magnitude.py) or single weights (sparsity.py)."""

from __future__ import annotations

from core.pruning.masking import sparsity
from core.pruning.methods import Scored
from core.pruning.scoring.magnitude import magnitude

FACTS = {
    "what": "drops the units whose weights are smallest in the fine-tuned model, heads and neurons in like shares",
    "needs": "nothing but the fine-tuned model",
    "cost": "none; no steps in the prune stage",
    "use": "zeros in a pattern ('2:4', '1:4'), where it is the default; else a control: what a method must beat",
    "source": "root mean square of a unit's weights, as in common libraries",
    "reads_rows": False,
    "sparsity": True,
}
prune, zero = Scored(magnitude), sparsity.magnitude
