"""What each ATen operator does to labels of channels.

Data movement is the same operator, run on labels instead of numbers. What works element by element unites the labels
that meet. What is not known pins all that it sees, so that nothing wrong is ever cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from core.domains.channels.tracing.labels import along, narrow, pinned, varying
from core.domains.channels.tracing.state import Held, State

Arguments = Mapping[str, Any]
Rule = Callable[[State, Arguments, tuple[int, ...]], Any]
R = TypeVar("R", bound=Rule)
RULES: dict[str, Rule] = {}  # name of the operator, without the underscore of those in place

SAME = (
    *("alias", "alpha_dropout", "clone", "contiguous", "detach", "dropout", "empty_like", "feature_dropout", "fill"),
    *("full_like", "lift", "lift_fresh_copy", "ones_like", "rand_like", "randn_like", "to", "_to_copy", "type_as"),
    *("zero", "zeros_like"),
)
POINTWISE = (  # what torch does not tag as such, in all its forms
    *("absolute", "add", "arctan", "div", "divide", "floor_divide", "gelu", "hardswish", "log_sigmoid", "masked_fill"),
    *("mish", "mul", "multiply", "negative", "pow", "rrelu", "rsub", "special_expit", "sub", "subtract", "threshold"),
    *("true_divide", "where"),
)
POOLS = (
    *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_max_pool1d", "adaptive_max_pool2d", "avg_pool1d"),
    *("avg_pool2d", "max_pool1d", "max_pool2d", "max_pool2d_with_indices", "upsample_bicubic2d"),
    *("upsample_bilinear2d", "upsample_linear1d", "upsample_nearest1d", "upsample_nearest2d"),
)
NEW = ["new_empty", "new_full", "new_ones", "new_zeros"]  # their sizes are written down


def rule(*names: str) -> Callable[[R], R]:
    """Name the operators that a rule is for."""

    def enter(found: R) -> R:
        RULES.update(dict.fromkeys(names, found))
        return found

    return enter


def unknown(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Pin whatever is seen."""
    for leaf in tree_leaves(list(args.values())):
        if isinstance(leaf, Held):
            state.hold(leaf)
        elif isinstance(leaf, Tensor):
            state.classes.pin(leaf)
    return pinned(shape)


@rule(*POINTWISE)
def pointwise(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Unite the labels that meet.

    What stays and is spread along the channels of the others (a mask over positions) asks nothing of them.
    """
    parts = [labels[(None,) * (len(shape) - labels.ndim)] for labels in state.tensors(args.values())]
    sides = {dim for part in parts for dim in varying(part)}
    meeting = [narrow(part) for part in parts if any(part.shape[dim] > 1 for dim in sides)]
    for part in meeting[1:]:
        state.classes.unite(meeting[0], part)
    return max(meeting, key=Tensor.numel).broadcast_to(shape) if meeting else pinned(shape)


@rule(*SAME)
def same(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Numbers change, places do not."""
    return next(iter(state.tensors(args.values())))


@rule(*NEW)
def new(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Nothing of what is given but its type."""
    return pinned(shape)


@rule("conv1d", "conv2d", "conv3d", "convolution")
def convolution(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Fresh labels; in a grouped convolution each group is one class, which passes through."""
    weight, groups = args["weight"], args.get("groups", 1)
    if not isinstance(weight, Held) or args.get("transposed"):
        return unknown(state, args, shape)
    dim = len(shape) - len(weight.shape) + 1
    rows, columns = state.side(weight, 0), state.columns(args["input"], dim)
    if groups == 1:
        state.classes.unite(state.side(weight, 1), columns)
    else:
        columns, out = columns.reshape(groups, -1), rows.reshape(groups, -1)
        state.classes.unite(columns[:, :1], columns)
        state.classes.unite(columns[:, :1], out)
    _bias(state, args.get("bias"), rows)
    positions = torch.Size(shape).numel() // shape[dim]
    state.multiply(weight, positions, groups)
    return along(rows, dim, shape)


@rule("linear")
def linear(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Fresh labels."""
    weight = args["weight"]
    if not isinstance(weight, Held) or len(weight.shape) != 2:
        return unknown(state, args, shape)
    rows = state.side(weight, 0)
    state.classes.unite(state.side(weight, 1), state.columns(args["input"], -1))
    _bias(state, args.get("bias"), rows)
    state.multiply(weight, torch.Size(shape[:-1]).numel(), 1)
    return along(rows, -1, shape)


def _bias(state: State, bias: Tensor | Held | None, rows: Tensor) -> None:
    if bias is not None:
        state.classes.unite(state.side(bias, 0) if isinstance(bias, Held) else pinned(bias.shape), rows)


@rule("batch_norm", "instance_norm", "prelu")
def per_channel(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """A number a channel, of the second dimension."""
    name = "input" if "input" in args else "self"
    if len(shape) < 2:
        return unknown(state, args, shape)
    columns = state.columns(args[name], 1)
    for key, value in args.items():
        if key != name and isinstance(value, Held) and value.shape == (shape[1],):
            state.classes.unite(state.side(value, 0), columns)
        elif key != name and isinstance(value, Tensor) and value.numel() > 1:
            state.classes.pin(columns)
    return state.labels(args[name])


@rule(*POOLS)
def pool(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Channels apart, over positions: the last dimensions."""
    labels = state.labels(args.get("self", args.get("input")))
    spatial = 2 if "2d" in state.operator.__name__ else 1
    if max(varying(labels), default=0) >= labels.ndim - spatial:
        return unknown(state, args, shape)
    for dim in range(labels.ndim - spatial, labels.ndim):
        labels = labels.narrow(dim, 0, 1)
    return labels.expand(shape)


@rule("sum", "mean", "amax", "amin", "max", "min", "std", "var", "std_mean", "var_mean", "norm", "linalg_vector_norm")
def reduce(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Over positions: channels stay. Over channels: they are pinned."""
    if "other" in args:  # the larger of two
        return pointwise(state, args, shape)
    labels = state.labels(args["self"])
    dims = _dimensions(args.get("dim"), labels)
    if {*dims} & {*varying(labels)}:
        return unknown(state, args, shape)
    return narrow(labels).amin(dims, bool(args.get("keepdim"))).expand(shape) if labels.ndim else labels


@rule("softmax", "log_softmax", "_softmax", "_log_softmax", "cumsum", "flip", "roll")
def along_one(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Along positions: channels stay. Along channels: they are pinned."""
    labels = state.labels(args["self"])
    dims = _dimensions(args.get("dim", args.get("dims")), labels)
    return unknown(state, args, shape) if {*dims} & {*varying(labels)} else labels


@rule("matmul", "bmm")
def product(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Of attention, (..., heads, N, K) by (..., heads, K, M): what lies in one head goes together, and stays apart."""
    factors = state.tensors(args.values())
    if len(factors) < 2 or any(one.ndim != len(shape) or one.ndim < 3 for one in factors):
        return unknown(state, args, shape)
    heads = []
    for labels in map(narrow, factors):
        heads.append(labels[..., :1, :1])
        state.classes.unite(heads[-1], labels)
    state.classes.unite(*heads)
    found = state.classes.find(heads[0] + 0 * heads[1])
    total = torch.Size(shape).numel() * factors[0].shape[-1]
    state.products.append((found.flatten(), total // found.numel()))
    return found.expand(shape)


def _dimensions(given: Any, labels: Tensor) -> list[int]:
    """Those that an operator works along; none given are all."""
    dims = [given] if isinstance(given, int) else [*(given or range(labels.ndim))]
    return [dim % max(1, labels.ndim) for dim in dims]


@rule("copy")
def copy(state: State, args: Arguments, shape: tuple[int, ...]) -> Tensor:
    """Written over: what was there and what comes are one."""
    return pointwise(state, {key: args[key] for key in ("self", "src")}, shape)
