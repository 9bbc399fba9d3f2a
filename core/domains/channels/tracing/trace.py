"""`trace`: read from one run of a network which channels go together.

`torch.export` lists the operators that a picture passes; `rules` and `moves` say what each does to labels of channels.
The graph is read only: what is cut, saved and run is the original module. After UPSCALE (Wan et al., ICML 2023, arXiv
2307.08771), whose segments are read from `torch.fx`, which transformers' models do not allow.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from core.domains.channels.cost import ChannelCosts
from core.domains.channels.graph import Graph
from core.domains.channels.norms import evaluating
from core.domains.channels.tracing import moves as _moves  # noqa: F401  enters its rules
from core.domains.channels.tracing.labels import pinned
from core.domains.channels.tracing.rules import RULES, pointwise, unknown
from core.domains.channels.tracing.state import Held, State
from core.domains.channels.tracing.trial import agrees
from core.domains.channels.tracing.units import build
from core.machine import is_full
from core.spec.errors import SpecError


def trace(model: nn.Module, inputs: Mapping[str, Tensor]) -> Graph:
    """Give the channels of `model` that can go, for pictures of one size; the model is left as it was.

    `inputs`: what `model(**inputs)` takes, for example {"pixel_values": (1, 3, H, W)}; the first row is looked at.
    Each graph is tried before it is given: a copy is cut at random, and must answer as the masked one does. Where it
    does not, heads of attention are pinned, then channels that are split or sliced, then all: `removable` of the costs
    says what is left.

    Raises SpecError('/model') if torch.export cannot read the model at all; where memory ends, the error that says so.
    """
    one = {name: value[:1] for name, value in inputs.items()}
    with evaluating(model):
        program, macs = _export(model, one), _count(model, one)
        names = _names(model, program)
        heads, plain, careful = (
            build(model, _walk(program, names, state), macs)
            for state in (State(), State(heads=False), State(heads=False, careful=True))
        )
        tried = [heads, plain] if _share(heads) > _share(plain) else [plain]
        for graph in [*tried, careful]:
            if agrees(model, graph, one):
                return graph
        return build(model, State(), macs)


def _share(graph: Graph) -> float:
    """Of the multiply-accumulates, that can go."""
    return ChannelCosts.of(graph).macs.removable


def _export(model: nn.Module, inputs: dict[str, Tensor]) -> Any:
    error: Exception | None = None
    for strict in (False, True):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return torch.export.export(model, (), inputs, strict=strict)
        except Exception as found:  # torch.export raises whatever the model's code makes of its tensors
            if is_full(found):
                raise
            error = error or found
    raise SpecError("/model", f"torch.export cannot read its network: {str(error)[:300]}") from error


@torch.no_grad()
def _count(model: nn.Module, inputs: dict[str, Tensor]) -> int:
    """Multiply-accumulates of one picture."""
    with FlopCounterMode(display=False) as counter:
        model(**inputs)
    return int(counter.get_total_flops()) // 2


def _names(model: nn.Module, program: Any) -> dict[str, str]:
    """Input of the program -> the parameter or buffer that it is; of tied ones the first name."""
    signature = program.graph_signature
    first: dict[int, str] = {}
    every = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    named = {name: first.setdefault(id(tensor), name) for name, tensor in every}
    return {
        node: named[name] for node, name in {**signature.inputs_to_parameters, **signature.inputs_to_buffers}.items()
    }


def _walk(program: Any, names: Mapping[str, str], state: State) -> State:
    """Run the program on labels; `state` knows nothing yet."""
    values = dict[Any, Any]()
    for node in program.graph.nodes:
        shapes = tree_map(lambda leaf: tuple(leaf.shape) if isinstance(leaf, Tensor) else None, node.meta.get("val"))
        if node.op == "placeholder":
            known = node.name in names
            values[node] = Held(names[node.name], shapes) if known else tree_map(_pinned, shapes, is_leaf=_is_shape)
        elif node.op == "call_function":
            values[node] = state.settle(_call(state, node, values, shapes))
        elif node.op == "output":
            given = tree_map(lambda leaf: values.get(leaf, leaf), list(node.args))
            unknown(state, {"outputs": given}, ())
    state.finish()
    return state


def _call(state: State, node: Any, values: dict[Any, Any], shapes: Any) -> Any:
    """What one operator makes of labels."""
    given, named = tree_map(lambda leaf: values.get(leaf, leaf), (list(node.args), dict(node.kwargs)))
    if getattr(node.target, "__name__", "") == "getitem":
        return given[0][given[1]] if isinstance(given[0], list | tuple) else None
    several = not _is_shape(shapes)
    first = next((shape for shape in shapes if shape is not None), None) if several and shapes else shapes
    if first is None:  # a check, or a number
        return None
    schema = getattr(node.target, "_schema", None)
    if schema is None:  # a part of the program that is run apart, for example under autocast
        unknown(state, {"given": (given, named)}, first)
        return tree_map(_pinned, shapes, is_leaf=_is_shape)
    args = {argument.name: value for argument, value in zip(schema.arguments, given, strict=False)} | named
    state.operator = node.target
    name = schema.name.rpartition("::")[2]
    rule = RULES.get(name.removesuffix("_"))
    if rule is None:
        rule = pointwise if torch.Tag.pointwise in node.target.tags else unknown
    value = rule(state, args, first)
    if several and isinstance(value, Tensor):
        return [value if shape == first else _pinned(shape) for shape in shapes]
    return value


def _is_shape(value: Any) -> bool:
    return value is None or (isinstance(value, tuple) and all(isinstance(size, int) for size in value))


def _pinned(shape: Any) -> Tensor | None:
    return None if shape is None else pinned(shape)
