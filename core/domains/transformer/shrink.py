"""Give a freshly built transformers model the shapes of a pruned one.

This file's text is also put into every checkpoint, so it imports nothing but torch and the standard library.
"""

from inspect import signature
from typing import Any

from torch import Tensor, nn

from core.domains.transformer.residual import residual_side


class NoAttention(nn.Module):
    """In place of an attention block whose heads are all dropped, up to its output projection."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        return hidden_states, None


class Nothing(nn.Module):
    """In place of a block's output projection, or of the block with it: adds nothing to the residual connection."""

    def __init__(self, alone: bool = True) -> None:
        super().__init__()
        self.alone = alone

    def forward(self, hidden_states: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        given: Any = kwargs["query"] if hidden_states is None else hidden_states  # transformers 4's DistilBERT
        nothing = given.new_zeros(())
        return nothing if self.alone else (nothing, None)


def shrink(model: Any, paths: dict[str, Any], shape: dict[str, Any], prefix: str = "") -> None:
    """Resize the Linears of every layer to `shape` = {"heads": [[kept], ...], "neurons": [how many, ...]}.

    With "hidden": how many dimensions the residual stream keeps. New parameters are uninitialised in effect: load the
    checkpoint's weights afterwards, strictly. A layer that is already of the right size is left alone. `paths` says
    where the parts lie (see the family table). `prefix`: "" for the plain model, where its body lies for that alone.
    """
    size, width = paths["head_size"], paths["head_size"] * paths["queries"]
    inner = [*(paths[name] for name in ("query", "key", "value")), *paths["relative"]]

    def resize(layer: Any, path: str, rows: int | None = None, columns: int | None = None) -> None:
        old = layer.get_submodule(path)
        wanted = (columns or old.in_features, rows or old.out_features)
        if wanted != (old.in_features, old.out_features):
            new = nn.Linear(*wanted, bias=old.bias is not None, device=old.weight.device, dtype=old.weight.dtype)
            layer.set_submodule(path, new)

    layers = model.get_submodule("" if prefix else paths["base"]).get_submodule(paths["layers"])
    for layer, heads, neurons in zip(layers, shape["heads"], shape["neurons"], strict=True):
        whole = paths["attention_out"].startswith(paths["attention"] + ".")
        if heads:
            attention = layer.get_submodule(paths["attention"])
            for path in {*inner} & {name for name, _ in layer.named_modules()}:
                resize(layer, path, rows=inner.count(path) * len(heads) * (width if path == paths["query"] else size))
            resize(layer, paths["attention_out"], columns=len(heads) * width)
            counts = dict.fromkeys(("num_attention_heads", "num_heads", "n_heads"), len(heads) * paths["queries"])
            for name, value in (counts | dict.fromkeys(("all_head_size", "dim"), len(heads) * width)).items():
                if hasattr(attention, name):  # all but the first are of transformers 4
                    setattr(attention, name, value)
            if paths["attention_bias"]:
                select_bias(attention, heads)
        elif whole:
            layer.set_submodule(paths["attention"], Nothing(alone=False))
        else:
            layer.set_submodule(paths["attention"], NoAttention())
            layer.set_submodule(paths["attention_out"], Nothing())
        if neurons:
            resize(layer, paths["ffn_in"], rows=neurons * (1 + paths["gated"]))
            if paths["gate"]:
                resize(layer, paths["gate"], rows=neurons)
            resize(layer, paths["ffn_out"], columns=neurons)
        elif paths["ffn_out"].startswith(paths["ffn"] + "."):
            layer.set_submodule(paths["ffn"], Nothing())
        else:
            layer.set_submodule(paths["ffn"], nn.Identity())
            layer.set_submodule(paths["ffn_out"], Nothing())
    if "hidden" in shape:
        narrow(model, paths, shape["hidden"], prefix)


def narrow(model: Any, paths: dict[str, Any], hidden: int, prefix: str = "") -> None:
    """Give every parameter of `model` room for `hidden` dimensions of the residual stream; see `shrink`.

    `prefix`: where `model` lies in the plain model.
    """
    for name, old in list(model.named_parameters()):
        side = residual_side(prefix + name, old.shape, paths, paths["hidden"])
        if side is not None:
            path, _, part = name.rpartition(".")
            module = model.get_submodule(path)
            shape = [hidden if i == side else size for i, size in enumerate(old.shape)]
            setattr(module, part, nn.Parameter(old.new_empty(shape), old.requires_grad))
            if isinstance(module, nn.Linear):
                module.out_features, module.in_features = module.weight.shape
            elif isinstance(module, nn.Embedding):
                module.embedding_dim = hidden
            elif isinstance(module, nn.LayerNorm):
                module.normalized_shape = (hidden,)


def select_bias(attention: Any, heads: list[int]) -> None:
    """Give attention, which has been cut to `heads` of those it had, their part of the bias that all layers share."""
    before = getattr(attention, "kept_heads", None)
    attention.kept_heads = [before[head] for head in heads] if before else list(heads)
    if not before:
        attention.register_forward_pre_hook(_own_bias)


def _own_bias(attention: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    where = list(signature(attention.forward).parameters).index("position_bias")
    return (*args[:where], args[where][:, attention.kept_heads], *args[where + 1 :])
