"""Every family of texts as one that gives vectors: masked == cut, cost == counted, saved == loaded."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from onnxruntime import InferenceSession
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from api.planning.catalogue import find
from core.domains.gates import Gates
from core.domains.structure import ATTENTION, Structure
from core.domains.transformer.cut import cut
from core.domains.transformer.embedder import load_embedder
from core.domains.transformer.gates import gated
from core.domains.transformer.load import load_network
from core.domains.transformer.model import read_model
from core.domains.transformer.network import TransformerNetwork
from core.domains.transformer.parts import hidden_size, units
from core.domains.transformer.pooling import read_recipe
from core.pruning.export.files import write_model
from core.pruning.latency.onnx import write_onnx
from core.pruning.reading.tokenizer import load_tokenizer
from core.rows.text.processor import Text
from core.spec.task import ProblemType
from tests.domains.transformer.test_families import (
    HIDDEN,
    LENGTH,
    MODELS,
    NARROW,
    STRUCTURES,
    folders,
    inputs,
    layers_of,
    regular,
)
from tests.pruning.conftest import costs_of
from tests.tiny import run_apart

__all__ = ["folders"]  # a fixture
POOLINGS = ("mean_tokens", "cls_token", "lasttoken", "max_tokens")
VECTORS: ProblemType = "text_retrieval"


@pytest.fixture(scope="module", params=sorted(MODELS))
def folder(request: pytest.FixtureRequest, folders: Path) -> Path:
    """A model folder of each family; in turn they are pooled in another way, have Dense layers, are normalised."""
    path, number = folders / str(request.param), sorted(MODELS).index(request.param)
    if not (path / "modules.json").exists():
        with_modules(path, POOLINGS[number % 4], dense=number % 3 == 0, unit=number % 2 == 0)
    return path


def with_modules(folder: Path, pooling: str, dense: bool, unit: bool) -> None:
    """As sentence-transformers saves them."""
    kinds = ["Transformer", "Pooling", *["Dense"] * dense, *["Normalize"] * unit]
    paths = ["", *(f"{i}_{kind}" for i, kind in enumerate(kinds) if i)]
    for path in paths[1:]:
        (folder / path).mkdir()
    said = [
        {"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in zip(kinds, paths, strict=True)
    ]
    (folder / "modules.json").write_text(json.dumps(said))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"similarity_fn_name": "dot"}))
    flags = {f"pooling_mode_{mode}": mode == pooling for mode in POOLINGS}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": HIDDEN} | flags))
    if dense:
        generator = torch.Generator().manual_seed(2)
        weight, bias = torch.randn(20, HIDDEN, generator=generator), torch.randn(20, generator=generator)
        save_file({"linear.weight": weight, "linear.bias": bias}, folder / "2_Dense" / "model.safetensors")
        config = {"in_features": HIDDEN, "out_features": 20, "bias": True}
        config |= {"activation_function": "torch.nn.modules.activation.Tanh"}
        (folder / "2_Dense" / "config.json").write_text(json.dumps(config))


def loaded(folder: Path, mapped: bool = False) -> TransformerNetwork:
    """With random weights everywhere, the same each time."""
    network = load_network(folder, ["match"], seed=0, problem=VECTORS, mapped=mapped)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network.eval()


@pytest.mark.parametrize("structure", [*STRUCTURES, NARROW])
def test_masked_equals_cut_and_costs_what_is_counted(folder: Path, structure: Structure) -> None:
    narrow = structure.hidden is not None
    model = loaded(folder, narrow)
    dense = Structure.dense(model.architecture.anatomy)
    whole, tensors = costs_of(model, LENGTH), len(model.state_dict())
    found = find(folder.parent, folder.name, VECTORS).costs(labels=1, length=LENGTH, mapped=narrow)
    assert found == whole  # the API reads the files' headers
    with torch.inference_mode(), gated(model, Gates.of(structure, dense.anatomy, HIDDEN), dense):
        masked = model.logits(inputs())
    cut(model, structure)
    with torch.inference_mode():
        torch.testing.assert_close(model.logits(inputs()), masked, atol=2e-5, rtol=1e-4)
    assert hidden_size(model) == len(structure.hidden or range(HIDDEN))
    costs, small = whole.of(structure), model.assembled()
    assert costs.params.of(structure) == sum(p.numel() for p in layers_of(model).parameters())
    assert costs.params.model(structure) == sum(p.numel() for p in small.parameters())
    size = model.file_bytes()
    assert size <= costs.bytes.model(structure) <= size + 150 * tensors
    small.plain.set_attn_implementation("eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        small(**inputs(1))
    assert 2 * costs.macs.model(structure) == counter.get_total_flops()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_vector_of_one_token_needs_a_head(pooling: str, tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "model")
    with_modules(tmp_path / "model", pooling, dense=False, unit=False)
    stays = ATTENTION if pooling in ("cls_token", "lasttoken") else None
    given, network = read_model(tmp_path / "model", VECTORS), load_network(tmp_path / "model", [], 0, VECTORS)
    assert given.architecture.anatomy.stays == network.architecture.anatomy.stays == stays


def test_vectors_are_those_of_each_text_alone(folder: Path) -> None:
    model = loaded(folder)
    together = inputs()
    with torch.inference_mode():
        vectors = model.logits(together)
        for i, count in enumerate(together["attention_mask"].sum(1).tolist()):
            alone = model.logits({name: column[i : i + 1, :count] for name, column in together.items()})
            torch.testing.assert_close(alone[0], vectors[i], atol=1e-5, rtol=1e-4)
    recipe = read_recipe(folder)
    assert vectors.shape == (2, recipe.dense[-1].rows if recipe.dense else HIDDEN)
    if recipe.normalised:
        assert vectors.norm(dim=1).tolist() == pytest.approx([1, 1])


@pytest.fixture(scope="module")
def saved(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cut model of each family, as load.py and AutoModel in a process with nothing of ours have it."""
    root = tmp_path_factory.mktemp("vectors")
    for number, name in enumerate(sorted(MODELS)):
        if not (folders / name / "modules.json").exists():
            with_modules(folders / name, POOLINGS[number % 4], dense=number % 3 == 0, unit=number % 2 == 0)
        for kind in ("free", "narrow", "plain"):
            network, structure = cut_as(folders / name, kind)
            modality = Text(load_tokenizer(folders / name), 64, apart=True)
            write_model(network, structure, modality, root / f"{name}-{kind}", plain=kind == "plain")
    (root / "inputs.json").write_text(json.dumps({name: column.tolist() for name, column in inputs().items()}))
    script = """
import json, pathlib, runpy, torch
inputs = {name: torch.tensor(column) for name, column in json.load(open("inputs.json")).items()}
said = {}
for folder in sorted(path.parent for path in pathlib.Path(".").glob("*/load.py")):
    model, tokenizer = runpy.run_path(str(folder / "load.py"))["load"]()
    with torch.inference_mode():
        said[folder.name] = model(**inputs).tolist()
    vectors = runpy.run_path(str(folder / "load.py"))["embed"](["w1 good", "w2", "w3 w4 w5 bad"], batch_size=2)
    assert vectors.shape == (3, len(said[folder.name][0])) and vectors.isfinite().all()
json.dump(said, open("said.json", "w"))
"""
    run_apart(script, root)
    return root


def cut_as(folder: Path, kind: str) -> tuple[TransformerNetwork, Structure]:
    """A network of random weights, in a layout."""
    network = loaded(folder, mapped=kind == "narrow")
    structure = {"free": STRUCTURES[1], "narrow": NARROW, "plain": regular(network.architecture.family)}[kind]
    cut(network, structure)
    return network, structure


@pytest.mark.parametrize("kind", ["free", "narrow", "plain"])
def test_a_saved_model_gives_the_same_vectors_however_it_is_loaded(saved: Path, folder: Path, kind: str) -> None:
    network, _ = cut_as(folder, kind)
    where = saved / f"{folder.name}-{kind}"
    again = load_embedder(where, read_recipe(where), trusted=kind != "plain")
    with torch.inference_mode():
        vectors = network.logits(inputs())
        assert torch.equal(again(**inputs()).logits, vectors)
    said = json.loads((saved / "said.json").read_text())[where.name]
    torch.testing.assert_close(torch.tensor(said), vectors, atol=1e-6, rtol=1e-5)
    assert bool(list(where.glob("*.py")) == [where / "load.py"]) == (kind == "plain")
    pooling = json.loads((where / "1_Pooling" / "config.json").read_text())
    assert pooling["word_embedding_dimension"] == (len(NARROW.hidden or ()) if kind == "narrow" else HIDDEN)
    counted = sum(p.numel() for p in again.parameters())
    assert counted == sum(p.numel() for p in network.assembled().parameters())
    assert sum(file.stat().st_size for file in where.rglob("*.safetensors")) == network.file_bytes()


@pytest.mark.parametrize("kind", ["free", "narrow"])
def test_a_saved_model_is_given_and_cut_again(saved: Path, folder: Path, kind: str, tmp_path: Path) -> None:
    network, _ = cut_as(folder, kind)
    where = saved / f"{folder.name}-{kind}"
    again = load_network(where, ["match"], seed=3, problem=VECTORS).eval()
    with torch.inference_mode():
        torch.testing.assert_close(again.logits(inputs()), network.logits(inputs()), atol=1e-6, rtol=1e-5)
    given = read_model(where, VECTORS)
    assert given.pruned and given.costs(1, LENGTH) == costs_of(again, LENGTH)
    half = Structure(tuple(row[len(row) // 2 :] for row in units(again).kept))
    cut(again, half)
    write_model(again, half, Text(load_tokenizer(where), 64, apart=True), tmp_path / "half")
    third = load_embedder(tmp_path / "half", read_recipe(tmp_path / "half"), trusted=True)
    assert third.recipe.similarity == read_recipe(folder).similarity == "dot"
    with torch.inference_mode():
        assert torch.equal(third(**inputs()).logits, again.logits(inputs()))


@pytest.mark.parametrize("folder", ["bert", "distilbert", "electra", "llama"], indirect=True)
def test_onnx_runtime_says_the_same(folder: Path, tmp_path: Path) -> None:
    """One of each way of pooling."""
    model = loaded(folder, mapped=True)
    cut(model, NARROW)
    write_onnx(model.assembled(), inputs(), tmp_path / "model.onnx")
    session = InferenceSession(tmp_path / "model.onnx")
    for ids in (torch.tensor([[7, 8, 9]]), torch.randint(5, 61, (5, 40))):
        mask = torch.ones_like(ids)
        mask[-1, 2:], ids[-1, 2:] = 0, model.body.config.pad_token_id or 0
        columns: dict[str, Any] = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        (said,) = session.run(["sentence_embedding"], columns)
        with torch.inference_mode():
            vectors = model.logits({"input_ids": ids, "attention_mask": mask})
        torch.testing.assert_close(torch.from_numpy(said), vectors, atol=1e-4, rtol=1e-3)


def test_where_nothing_is_cut_vectors_are_those_of_the_model(folder: Path) -> None:
    """Also with the layer that keeps their length where dimensions go."""
    network = load_network(folder, ["match"], seed=0, problem=VECTORS).eval()
    with torch.inference_mode():
        vectors = network.logits(inputs())
        wide = load_network(folder, ["match"], seed=5, problem=VECTORS, mapped=True).eval()
        torch.testing.assert_close(wide.logits(inputs()), vectors, atol=1e-6, rtol=1e-5)
        again = copy.deepcopy(network).train()
        again.drop_nothing()
        torch.testing.assert_close(again.logits(inputs()), vectors, atol=1e-6, rtol=1e-5)
