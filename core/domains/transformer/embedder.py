"""A body that gives one vector a text: transformers' AutoModel, pooled, with what `modules.json` puts behind."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel
from transformers.modeling_outputs import SequenceClassifierOutput

from core.domains.transformer.pooling import Recipe
from core.spec.errors import SpecError

HEAD = "head"
PASS = 256  # tokens that take about as long as it takes to run the body once more


class Embedder(nn.Module):
    """The body as attribute `base`, as a task model has it, and `head`: from the pooled vector to the text's.

    `forward` gives vectors (B, D) as `logits`.
    """

    output = "sentence_embedding"  # what model.onnx calls it

    def __init__(self, body: Any, base: str, recipe: Recipe, head: nn.Module) -> None:
        super().__init__()
        self.base, self.recipe, self.config = base, recipe, body.config
        self.reads = frozenset(signature(body.forward).parameters)
        self.add_module(base, body)
        self.add_module(HEAD, head)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> SequenceClassifierOutput:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None and "token_type_ids" in self.reads:
            inputs["token_type_ids"] = token_type_ids
        states = self.plain(**inputs).last_hidden_state
        vectors = self.get_submodule(HEAD)(pooled(states, attention_mask, self.recipe.pooling))
        return SequenceClassifierOutput(logits=vectors)

    @property
    def plain(self) -> Any:
        """The body, as AutoModel has it."""
        return self.get_submodule(self.base)

    @property
    def width(self) -> int:
        """Dimensions of the pooled vector; where some are gone, there is a Dense layer behind it."""
        dense = [module for module in self.get_submodule(HEAD).children() if isinstance(module, nn.Linear)]
        return int(dense[0].in_features if dense else self.config.hidden_size)

    def get_input_embeddings(self) -> Any:
        """Of the body."""
        return self.plain.get_input_embeddings()

    def set_input_embeddings(self, embeddings: nn.Module) -> None:
        """Of the body."""
        self.plain.set_input_embeddings(embeddings)


class Unit(nn.Module):
    """Vectors of length 1."""

    def forward(self, vectors: Tensor) -> Tensor:
        return F.normalize(vectors, dim=-1)


def pooled(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """One vector a text, (B, D), of its tokens' last hidden states, (B, T, D), the padding (on the right) left out."""
    if pooling == "first":
        return states[:, 0]
    real = mask.unsqueeze(-1).to(states.dtype)
    if pooling == "last":
        last = (mask.sum(1) - 1).clamp(min=0)
        return states.gather(1, last[:, None, None].expand(-1, 1, states.shape[-1])).squeeze(1)
    if pooling == "max":
        return states.masked_fill(real == 0, -1e9).amax(1)
    return (states * real).sum(1) / real.sum(1).clamp(min=1e-9)


def in_two(run: Callable[..., Tensor], inputs: Mapping[str, Tensor]) -> Tensor:
    """Give what `run` makes of a batch, (B, ...): short and long rows apart, where that spares enough padding.

    Queries lie beside documents; rows do not know of each other.
    """
    lengths, order = inputs["attention_mask"].sum(1).sort()
    rows = len(order)
    spared = torch.arange(1, rows, device=lengths.device) * (lengths[-1] - lengths[:-1])
    if rows < 2 or int(spared.max()) <= PASS:
        return run(**inputs)
    cut = int(spared.argmax()) + 1
    parts = [
        run(**{name: column[some, : int(lengths[last])] for name, column in inputs.items()})
        for some, last in ((order[:cut], cut - 1), (order[cut:], -1))
    ]
    return torch.cat(parts)[order.argsort()]


def head_of(recipe: Recipe, hidden: int | None, mapped: bool) -> nn.Sequential:
    """The Dense layers and the normalisation of a recipe; SpecError('/model') where they do not fit.

    `hidden`: of the body, where it is known. `mapped`: there is a Dense layer in any case, if only one that changes
    nothing at first: by it vectors keep their length where hidden dimensions go, and can be turned.
    """
    recipe.require(hidden)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, dense in enumerate(recipe.dense):
        weights = load_file(dense.folder / "model.safetensors")
        if not all(part.isfinite().all() for part in weights.values()):
            raise SpecError("/model", f"the Dense layer in its {dense.folder.name} holds numbers that are not finite")
        linear = nn.Linear(dense.columns, dense.rows, bias=dense.bias)
        linear.load_state_dict({name: weights[f"linear.{name}"].float() for name in linear.state_dict()})
        layers[f"dense{number}"] = linear
        layers[f"activation{number}"] = getattr(nn, dense.activation)()
    if mapped and hidden and not recipe.dense:
        linear = nn.Linear(hidden, hidden, bias=False)
        with torch.no_grad():
            linear.weight.copy_(torch.eye(hidden))
        layers["dense0"] = linear
        layers["activation0"] = nn.Identity()
    if recipe.normalised:
        layers["unit"] = Unit()
    return nn.Sequential(layers)


def linears(head: nn.Module) -> tuple[str, ...]:
    """Paths of a head's Linears in the embedder."""
    return tuple(f"{HEAD}.{name}" for name, module in head.named_children() if isinstance(module, nn.Linear))


def load_embedder(folder: Path, recipe: Recipe, trusted: bool) -> Embedder:
    """A finished checkpoint, as its files say; its own code is run where it is `trusted`."""
    body = AutoModel.from_pretrained(folder, trust_remote_code=trusted, dtype=torch.float32)
    head = head_of(recipe, None, mapped=False)
    if getattr(body, "pooler", None) is not None:  # one of random weights: the checkpoint has none
        body.pooler = None
    return Embedder(body, "body", recipe, head).eval()
