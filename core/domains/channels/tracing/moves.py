"""Rules of data movement: the same operator on labels, and what keeps a tensor rectangular once channels go."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from core.domains.channels.tracing.labels import narrow, pinned, varying
from core.domains.channels.tracing.rules import Arguments, rule, unknown
from core.domains.channels.tracing.state import State


@rule(
    "view", "reshape", "_unsafe_view", "reshape_as", "view_as", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel"
)
def reshape(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Where channels are split into parts, like (groups, channels / groups), each part keeps the same."""
    labels = state.labels(args["self"])
    result = state.classes.find(labels.reshape(shape))
    before, after = ([part.shape[dim] for dim in varying(part)] for part in (labels, result))
    if state.careful and len(shape) > labels.ndim and "unsqueeze" not in state.operator.__name__:
        return split(state, result, -1)
    if state.heads and varying(result)[-2:] == [len(shape) - 2, len(shape) - 1] and len(before) == 1:
        return result  # (tokens, heads, size of a head): products unite a head, or `finish` pins it
    parted = len(after) > max(1, len(before)) or max(after, default=0) < max(before, default=0)
    return split(state, result, varying(result)[-1]) if parted and after else result


def split(state: State, labels: Tensor, keep: int) -> Tensor:
    """Let channels vary along one dimension alone: what is at one index of it goes together.

    Whether the model's code says how many parts there are, or how large one is, the graph does not tell: a trial has
    to, and all is pinned where one has failed.
    """
    if state.careful:
        state.classes.pin(labels)
    else:
        state.columns(labels, keep)
    return state.classes.find(labels)


@rule("permute", "transpose", "t", "swapaxes", "movedim", "moveaxis", "swapdims", "mT", "numpy_T")
def permute(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Dimensions change places."""
    result: Tensor = state.run(args)
    return result


@rule("expand", "expand_as", "broadcast_to")
def expand(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """The same at every new index."""
    return state.labels(args["self"]).expand(shape)


@rule("repeat", "tile", "repeat_interleave", "pixel_unshuffle")
def repeat(state: State, args: Arguments, shape: tuple[int, ...]) -> Any:
    """A class may lie in one tensor more than once."""
    if any(isinstance(value, Tensor) for key, value in args.items() if key != "self"):
        return unknown(state, args, shape)
    return state.run(args)


@rule("pixel_shuffle")
def pixel_shuffle(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Channels become positions, r * r of them each."""
    return split(state, state.classes.find(state.run(args)), len(shape) - 3)


@rule("cat", "concat", "concatenate", "stack")
def cat(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Side by side; along any other dimension all parts keep the same."""
    parts = state.tensors([args["tensors"]])
    dim = args.get("dim", 0) % len(shape)
    if len(shape) > parts[0].ndim:  # stack
        parts = [part.unsqueeze(dim) for part in parts]
    parts = [part for part in parts if part.ndim == len(shape)]  # an empty one, (0,), adds nothing
    for other in {side for part in parts for side in varying(part)} - {dim}:
        first = state.columns(parts[0], other)
        for part in parts[1:]:
            state.classes.unite(first, state.columns(part, other))
    small = [narrow(part) for part in parts]
    sizes = [max(part.shape[i] for part in small) if i != dim else -1 for i in range(len(shape))]
    full = [
        part.expand([size if i != dim else whole.shape[dim] for i, size in enumerate(sizes)])
        for part, whole in zip(small, parts, strict=True)
    ]
    return torch.cat(full, dim).expand(shape)


@rule("slice", "narrow", "select", "unbind", "split", "split_with_sizes", "index_select")
def piece(state: State, args: Arguments, shape: tuple[int, ...]) -> Any:
    """Of positions: channels stay. Of channels, at places that are written down: what lies before their end stays."""
    labels = state.labels(args["self"])
    dim = args.get("dim", 0) % labels.ndim
    if any(isinstance(value, Tensor) for key, value in args.items() if key != "self"):
        return unknown(state, args, shape)
    if dim in varying(labels) and labels.shape != torch.Size(shape):
        size, start, end = labels.shape[dim], args.get("start"), args.get("end")
        odd = (start is None and end is None) or args.get("step", 1) != 1 or "length" in args
        if odd or state.careful or min(start or 0, end or 0) < 0:
            state.classes.pin(labels)
        else:
            start, end = slice(start, end).indices(size)[:2]
            state.classes.pin(labels.narrow(dim, 0, end if end < size else start))
    return state.run(args)


@rule("chunk")
def chunk(state: State, args: Arguments, shape: tuple[int, ...]) -> Any:
    """Equal parts of channels keep the same."""
    labels = state.labels(args["self"])
    dim, count = args.get("dim", 0) % labels.ndim, args["chunks"]
    if dim in varying(labels):
        if labels.shape[dim] % count or state.careful:
            state.classes.pin(labels)
        else:
            columns = state.columns(labels, dim).reshape(count, -1)
            state.classes.unite(columns[:1], columns)
    return state.run(args)


@rule("pad", "constant_pad_nd")
def pad(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Of positions: nothing. Of channels: the new ones stay."""
    labels, sizes = narrow(state.labels(args["self"])), list(args["pad"])
    for side in varying(labels):
        place = 2 * (labels.ndim - 1 - side)
        before, after = sizes[place : place + 2] or (0, 0)
        if min(before, after) < 0 or ((before or after) and args.get("mode", "constant") != "constant"):
            return unknown(state, args, shape)
        ends = [pinned([n if i == side else size for i, size in enumerate(labels.shape)]) for n in (before, after)]
        labels = torch.cat([ends[0], labels, ends[1]], side)
    return labels.expand(shape)
