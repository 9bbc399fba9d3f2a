"""`l0`: learned masks (core/pruning/masking/l0.py)."""

from __future__ import annotations

from core.pruning.masking import l0

FACTS = {
    "what": "learns hard-concrete masks on units and blocks together with the weights, under a Lagrangian on the size",
    "needs": "a few hundred steps in the prune stage",
    "cost": "a prune step costs what a fine-tuning step does, and less as the network shrinks",
    "use": "coupling 'tied', where each task has masks of its own; or to compare with CoFi",
    "source": "Louizos et al., ICLR 2018 (arXiv 1712.01312); Xia et al., ACL 2022 (arXiv 2204.00408)",
    "trains": True,
}
prune = l0.prune
