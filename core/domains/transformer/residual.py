"""Which side of a parameter runs along the residual stream: what goes when hidden dimensions do.

`residual_side` also ships inside checkpoints, so it uses nothing but what it is given.
"""

from collections.abc import Mapping, Sequence
from typing import Any


def residual_side(name: str, shape: Sequence[int], paths: Mapping[str, Any], hidden: int) -> int | None:
    """The dimension of the parameter `name`, as the plain model has it, that has a place for each hidden dimension.

    `paths`: the family's fields; `hidden`: the dense model's hidden size. A pooler, and whatever else lies between
    the first Linear behind the layers and the logits, has features of its own.
    """
    path, _, part = name.rpartition(".")
    if path.startswith(layers := f"{paths['base']}.{paths['layers']}."):
        path = path.removeprefix(layers).partition(".")[2]
        readers = [paths[one] for one in ("query", "key", "value", "ffn_in", "gate")]
        if path in (*readers, *paths["relative"]):
            return 1 if part == "weight" else None
        return None if path in paths["attention_norms"] else 0  # what writes to the stream, and the norms on it
    if path in (*paths["head_layers"], *paths["head_norms"]):
        return 1 if (path, part) == (paths["head_layers"][0], "weight") else None
    if path in paths["per_token"]:  # from embeddings of another size
        return 0
    last = len(shape) - 1
    return last if path.startswith(paths["base"] + ".") and shape[last] == hidden else None
