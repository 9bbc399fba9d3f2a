"""`pooling: mean`: the head reads the mean of a text's tokens where it would read the first one alone.

This file's text is also put into checkpoints that need it, so it imports nothing but torch and the standard library.
"""

from inspect import signature
from typing import Any

from torch import Tensor, cat


def read_mean(model: Any, paths: dict[str, Any]) -> None:
    """Put the mean of the last hidden states in the first token's place, behind the body of `model`.

    Sentence-BERT's mean pooling (Reimers and Gurevych, 2019, arXiv 1908.10084): over all tokens but the padding. A
    pooler inside the body, as BERT has one, reads it, too. `paths`: of the family.
    """
    base = model.get_submodule(paths["base"])
    mask_place = list(signature(base.forward).parameters).index("attention_mask")
    pooler = getattr(base, "pooler", None) is not None

    def hook(base: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        mask = kwargs.get("attention_mask", args[mask_place] if len(args) > mask_place else None)
        states = mean_first(output[0], mask)
        pooled = [base.pooler(states)] if pooler else []
        if isinstance(output, tuple):
            return (states, *pooled, *output[1 + len(pooled) :])
        output["last_hidden_state"] = states
        if pooler:
            output["pooler_output"] = pooled[0]
        return output

    base.register_forward_hook(hook, with_kwargs=True)


def mean_first(states: Tensor, mask: Tensor | None) -> Tensor:
    """The tokens' hidden states (B, T, D) with their mean over `mask` (B, T) in the first place."""
    if mask is None:
        mean = states.mean(1, keepdim=True)
    else:
        real = mask.unsqueeze(-1).to(states.dtype)
        mean = (states * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1.0)
    return cat((mean, states[:, 1:]), 1)
