"""Give a freshly built transformers model the shapes of a pruned one.

This file's text is also put into every checkpoint, so it imports nothing but torch and the standard library.
"""

from typing import Any

from torch import Tensor, nn


class NoAttention(nn.Module):
    """In place of an attention block whose heads are all dropped."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        return hidden_states, None


class NoOutput(nn.Module):
    """In place of a block's output projection: adds nothing to the residual connection."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        return hidden_states.new_zeros(())


def shrink(model: Any, paths: dict[str, Any], sizes: dict[str, list[int]]) -> None:
    """Resize the Linears of every layer to `sizes` = {"heads": [n of each layer], "neurons": [...]}.

    New Linears are uninitialised in effect: load the checkpoint's weights afterwards, strictly. A layer that is
    already of the right size is left alone. `paths` says where the parts lie (see the family table).
    """
    layers = model.get_submodule(paths["base"]).get_submodule(paths["layers"])

    def resize(layer: Any, path: str, rows: int | None = None, columns: int | None = None) -> None:
        old = layer.get_submodule(path)
        shape = (columns or old.in_features, rows or old.out_features)
        if shape != (old.in_features, old.out_features):
            new = nn.Linear(*shape, bias=old.bias is not None, device=old.weight.device, dtype=old.weight.dtype)
            layer.set_submodule(path, new)

    for layer, heads, neurons in zip(layers, sizes["heads"], sizes["neurons"], strict=True):
        if heads:
            for name in ("query", "key", "value"):
                resize(layer, paths[name], rows=heads * paths["head_size"])
            resize(layer, paths["attention_out"], columns=heads * paths["head_size"])
        else:
            layer.set_submodule(paths["attention"], NoAttention())
            layer.set_submodule(paths["attention_out"], NoOutput())
        if neurons:
            resize(layer, paths["ffn_in"], rows=neurons)
            resize(layer, paths["ffn_out"], columns=neurons)
        else:
            layer.set_submodule(paths["ffn"], nn.Identity())
            layer.set_submodule(paths["ffn_out"], NoOutput())
