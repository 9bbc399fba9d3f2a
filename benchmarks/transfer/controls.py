"""Structures that were not learned, of the same size as the learned ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from math import ceil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.domains.cost import Additive
from core.domains.fit import Scores, fit
from core.domains.structure import Structure
from core.domains.transformer.costs import Costs
from core.domains.transformer.cut import sliced, slices
from core.domains.transformer.families import Architecture
from core.domains.transformer.load import load_network, read_architecture
from core.pruning.system.files import write_json
from core.pruning.training.train import History
from core.spec.budget import Budget


def place(control: str, model: Path, state: Path, budget: Budget) -> None:
    """Leave in `state`, which holds the taught teacher, what a pruning stage would: the job goes on from there."""
    weights = load_file(state / "teach.safetensors")
    body = {name.removeprefix("body."): tensor for name, tensor in weights.items() if name.startswith("body.")}
    heads = {name: tensor for name, tensor in weights.items() if not name.startswith("body.")}
    architecture = read_architecture(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in body.items()}
    cost, limit = Costs.from_shapes(architecture, shapes, 1).limit(budget)
    make = small_dense if control == "small-dense" else partial(magnitude, model=model, body=body)
    structure = make(cost, limit, architecture)
    cut = {f"body.{name}": tensor for name, tensor in sliced(body, slices(architecture, structure)).items()}
    save_file({name: t.contiguous() for name, t in (cut | heads).items()}, state / "prune.safetensors")
    write_json(state / "prune.json", {"history": asdict(History()), "structure": structure.to_json()})


def small_dense(cost: Additive, limit: int, architecture: Architecture) -> Structure:
    """A regular small model: the lower half of the layers (more if they are too few), alike in heads and neurons.

    Heads to neurons as in the dense model, as nearly as the budget lets; the first units of each layer. The upper
    layers leave nothing but their LayerNorms.
    """
    a, room_of_all = architecture, limit - sum(cost.fixed)
    head, neuron, blocks = cost.unit[0], cost.unit[-1], cost.block[0] + cost.block[-1]
    layer = a.heads * head + a.neurons * neuron + blocks
    for layers in range(max(1, a.layers // 2, ceil(room_of_all / layer)), 0, -1):
        room = room_of_all // layers - blocks
        per_head = head + neuron * a.neurons // a.heads
        heads = min(a.heads, max(1, round(room / per_head)))
        while heads > 1 and room < heads * head + neuron:
            heads -= 1
        neurons = min(a.neurons, (room - heads * head) // neuron)
        if neurons >= 1:
            nothing = [range(0)] * (a.layers - layers)
            return Structure.of([range(heads)] * layers + nothing, [range(neurons)] * layers + nothing)
    raise ValueError("the budget does not hold a single layer with one head and one neuron")


def magnitude(
    cost: Additive, limit: int, architecture: Architecture, model: Path, body: Mapping[str, Tensor]
) -> Structure:
    """torch-pruning's group magnitudes (L2 over all weights of a group, each group's mean 1), ranked over all layers.

    A head scores the mean of its channels. The ranking is the library's; that the budget is met exactly is `fit`'s.
    """
    import torch_pruning as tp

    a = architecture
    network = load_network(model, ["a", "b"], seed=0)
    network.body.load_state_dict(dict(body), strict=True)
    encoder = network.body.get_submodule(a.family.base)
    network.body.set_attn_implementation("eager")  # the library does not see through fused attention
    ids = torch.ones(1, 8, dtype=torch.long)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    graph = tp.DependencyGraph().build_dependency(encoder, example_inputs=inputs)
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    heads, neurons = np.zeros((a.layers, a.heads)), np.zeros((a.layers, a.neurons))
    for i in range(a.layers):
        layer = encoder.get_submodule(f"{a.family.layers}.{i}")
        for path, width in ((a.family.query, a.heads * a.head_size), (a.family.ffn_in, a.neurons)):
            module = layer.get_submodule(path)
            group = graph.get_pruning_group(module, tp.prune_linear_out_channels, list(range(width)))
            score = importance(group).detach().double().numpy()
            if path == a.family.query:
                heads[i] = score.reshape(a.heads, a.head_size).mean(1)
            else:
                neurons[i] = score
    return fit(Scores(np.append(heads, neurons)), cost, limit)
