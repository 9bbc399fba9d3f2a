"""Every family on a small random model: masked == cut, cost == counted, saved == loaded."""

from __future__ import annotations

import copy
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from onnxruntime import InferenceSession
from safetensors.torch import save
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from api.catalogue import find
from core.pruning.cut import cut
from core.pruning.export import write_model
from core.pruning.magnitude import norms
from core.pruning.masks import Gates, gated
from core.pruning.network import Network, load_network, load_tokenizer, longest_text, units
from core.pruning.onnx import write_onnx
from core.pruning.run import ModelRef, run
from core.spec.families import FAMILIES, Family
from core.spec.job import JobSpec, ProblemType
from core.spec.problems import SpecError
from core.spec.structure import Structure
from tests.pruning.conftest import costs_of
from tests.tiny import rows

LAYERS, HEADS, NEURONS, HIDDEN, LENGTH = 3, 4, 24, 32, 12
STRUCTURES = [
    Structure.of([[0, 2], [1], [3]], [[1, 5, 9], range(24), [0]]),
    Structure.of([[], [0, 1, 3], []], [[], [4, 7], range(5)]),
    Structure.of([[], [], []], [[], [], []]),
]


@pytest.fixture(scope="module")
def folders(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of each family, its body alone."""
    root = tmp_path_factory.mktemp("models")
    for name, family in FAMILIES.items():
        values = dict(zip(family.sizes, (HIDDEN, HEADS, LAYERS, NEURONS), strict=True))
        options = {"vocab_size": 80, "max_position_embeddings": 64, "pad_token_id": 1, "classifier_pooling": "mean"}
        config = AutoConfig.for_model(name, **values, **options, attention_dropout=0.3, mlp_dropout=0.3)
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(root / name)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny / file, root / name)
    return root


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def folder(request: pytest.FixtureRequest, folders: Path) -> Path:
    """One of them."""
    return folders / str(request.param)


@pytest.fixture
def model(folder: Path) -> Network:
    """With random weights everywhere, so that nothing cancels by chance."""
    return loaded(folder)


def loaded(folder: Path, problem: ProblemType = "single_label_classification") -> Network:
    """The same each time."""
    network = load_network(folder, ["a", "b", "c"], seed=0, problem=problem)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network.eval()


@pytest.fixture(scope="module")
def saved(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cut model of each family, and what each says once it is loaded, in both ways, with nothing of ours."""
    root = tmp_path_factory.mktemp("saved")
    for name in FAMILIES:
        smaller = loaded(folders / name)
        cut(smaller, STRUCTURES[1])
        write_model(smaller, STRUCTURES[1], load_tokenizer(folders / name), root / name)
    (root / "inputs.json").write_text(json.dumps({name: column.tolist() for name, column in inputs().items()}))
    script = """
import importlib.util, json, pathlib, torch
from transformers import AutoModelForSequenceClassification
inputs = {name: torch.tensor(column) for name, column in json.load(open("inputs.json")).items()}
said = {}
for folder in sorted(path.parent for path in pathlib.Path(".").glob("*/load.py")):
    spec = importlib.util.spec_from_file_location("load", folder / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    one, _ = module.load(folder)
    other = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
    said[folder.name] = [model(**inputs).logits.tolist() for model in (one, other)]
json.dump(said, open("said.json", "w"))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        cwd=root,
        capture_output=True,
        text=True,
        env={"HF_MODULES_CACHE": str(root / ".modules"), "HF_HUB_OFFLINE": "1", "HOME": str(root)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return root


def inputs(count: int = 2) -> dict[str, torch.Tensor]:
    """The last row is padded, where there are several."""
    ids = torch.randint(5, 61, (count, LENGTH), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if count > 1:
        ids[-1, 7:], mask[-1, 7:] = 1, 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_masked_equals_cut(model: Network, structure: Structure) -> None:
    dense = Structure.dense(model.architecture)
    smaller = copy.deepcopy(model)
    cut(smaller, structure)
    with torch.inference_mode():
        with gated(model, Gates.of(structure, dense), dense):
            masked = model.logits(inputs())
        logits = smaller.logits(inputs())
        assert not torch.allclose(masked, model.logits(inputs()), atol=1e-3)
    torch.testing.assert_close(logits, masked, atol=2e-5, rtol=0)
    assert units(smaller).sizes() == structure.sizes()


def test_a_saved_model_loads_both_ways(saved: Path, model: Network) -> None:
    """What a process with nothing of ours said of the inputs (see `saved`)."""
    smaller = copy.deepcopy(model)
    cut(smaller, STRUCTURES[1])
    said = json.loads((saved / "said.json").read_text())[model.architecture.family.model_type]
    with torch.inference_mode():
        logits = smaller.logits(inputs())
    for loaded in said:
        torch.testing.assert_close(torch.tensor(loaded), logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("structure", STRUCTURES[:2])
def test_onnx_runtime_says_the_same_of_any_batch_and_length(
    model: Network, structure: Structure, tmp_path: Path
) -> None:
    cut(model, structure)
    write_onnx(model.assembled(), inputs(), tmp_path / "model.onnx")
    session = InferenceSession(tmp_path / "model.onnx")
    for ids in (torch.tensor([[7, 8, 9]]), torch.randint(5, 61, (5, 40))):
        mask = torch.ones_like(ids)
        mask[-1, 2:] = 0
        said = session.run(["logits"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
        with torch.inference_mode():
            logits = model.logits({"input_ids": ids, "attention_mask": mask})
        torch.testing.assert_close(torch.from_numpy(said), logits, atol=1e-4, rtol=0)


def test_every_weight_that_goes_with_a_unit_is_in_one_norm(model: Network) -> None:
    cost, family = costs_of(model).params, model.architecture.family
    kinds = zip(norms(model), (cost.head, cost.neuron), strict=True)
    owned = sum(price * layer.square().sum().item() for kind, price in kinds for layer in kind)
    layers = model.body.get_submodule(f"{family.base}.{family.layers}")
    wanted = 0.0
    for name, module in layers.named_modules():
        if isinstance(module, torch.nn.Linear):
            shared = module.bias is None or name.endswith((family.attention_out, family.ffn_out))
            wanted += module.weight.square().sum().item() + (0.0 if shared else module.bias.square().sum().item())
    assert owned == pytest.approx(wanted, rel=1e-5)


def test_costs_are_what_is_counted(model: Network, folder: Path) -> None:
    costs = costs_of(model, LENGTH)
    assert costs == find(folder.parent, folder.name).costs(labels=3, length=LENGTH)  # the API reads the file's header
    for structure in (*STRUCTURES, Structure.dense(model.architecture)):
        smaller = copy.deepcopy(model)
        cut(smaller, structure)
        whole = smaller.assembled()
        layers = smaller.body.get_submodule(f"{model.architecture.family.base}.{model.architecture.family.layers}")
        assert costs.params.encoder(structure) == sum(p.numel() for p in layers.parameters())
        assert costs.params.model(structure) == sum(p.numel() for p in whole.parameters())
        weights = len(save(whole.state_dict(), metadata={"format": "pt"}))
        assert weights <= costs.bytes.model(structure) <= weights + 150 * len(model.assembled().state_dict())
        whole.set_attn_implementation("eager")
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            whole(**inputs(count=1))
        assert 2 * costs.macs.model(structure) == counter.get_total_flops()


def test_a_head_on_every_token(folder: Path, tmp_path: Path) -> None:
    """Masked == cut, cost == counted (the API counts alike), saved == loaded: as with a head on the whole text."""
    model = loaded(folder, "token_classification")
    structure, dense = STRUCTURES[1], Structure.dense(model.architecture)
    costs = costs_of(model, LENGTH)
    assert costs == find(folder.parent, folder.name, "token_classification").costs(labels=3, length=LENGTH)
    with torch.inference_mode(), gated(model, Gates.of(structure, dense), dense):
        masked = model.logits(inputs())
    cut(model, structure)
    with torch.inference_mode():
        logits = model.logits(inputs())
    assert logits.shape == (2, LENGTH, 3)
    torch.testing.assert_close(logits, masked, atol=2e-5, rtol=0)

    whole = model.assembled()
    assert costs.params.model(structure) == sum(p.numel() for p in whole.parameters())
    write_model(model, structure, load_tokenizer(folder), tmp_path / "saved")
    spec = importlib.util.spec_from_file_location("load", tmp_path / "saved" / "load.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.inference_mode():
        torch.testing.assert_close(module.load()[0](**inputs()).logits, logits, atol=1e-5, rtol=0)
    whole.set_attn_implementation("eager")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        whole(**inputs(count=1))
    assert 2 * costs.macs.model(structure) == counter.get_total_flops()


def test_a_family_without_a_head_for_words_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="family 'other' has no token classification here; these do: bert,") as caught:
        Family("other", "OtherForSequenceClassification", "other").for_words()
    assert caught.value.field == "/model"


def test_cutting_twice_equals_cutting_once(model: Network) -> None:
    outer = Structure.of([[0, 2, 3], [1, 2], range(4)], [range(3, 20), range(24), range(8)])
    inner = Structure.of([[0, 3], [2], []], [range(4, 9), [0, 23], []])
    once, twice = copy.deepcopy(model), copy.deepcopy(model)
    cut(once, inner)
    cut(twice, outer)
    cut(twice, inner.within(outer))
    with torch.inference_mode():
        torch.testing.assert_close(twice.logits(inputs()), once.logits(inputs()), atol=1e-6, rtol=0)


def test_every_position_that_the_model_takes_can_be_used(model: Network) -> None:
    length = longest_text(model, 1000)
    assert length >= 62
    with torch.inference_mode():
        assert model.logits({"input_ids": torch.full((1, length), 7)}).shape == (1, 3)


def test_without_dropout_training_answers_as_evaluation(model: Network) -> None:
    model.drop_nothing()
    with torch.inference_mode():
        torch.testing.assert_close(model.train().logits(inputs()), model.eval().logits(inputs()))


def test_another_head_is_of_the_same_build(model: Network) -> None:
    model.add_head("other", 5)
    with torch.inference_mode():
        assert model.logits(inputs(), "other").shape == (2, 5)


@pytest.mark.parametrize("folder", ["mpnet", "modernbert"], indirect=True)
def test_a_whole_job(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "rows.parquet"
    pq.write_table(pa.table(rows(120)), table)
    spec = JobSpec.model_validate(
        {
            "model": folder.name,
            "task": {"data": {"dataset": "ds_" + "1" * 32}, "split": {"train": 40, "dev": 40}},
            "budget": {"macs": 0.5},
            "export": {"formats": ["onnx"]},
            "train": {"steps": {"teach": 4, "recover": 4}},
        }
    )
    report = run(spec, ModelRef(folder, folder.name), {"ds_" + "1" * 32: table}, tmp_path / "work", lambda _said: None)
    assert report["budget"]["met"] <= report["budget"]["limit"]
    assert report["verified"]["max_difference_between_loaders"] < 1e-5
    assert 0 < report["verified"]["max_difference_onnx"] < 1e-5
    monkeypatch.chdir(tmp_path / "work" / "output")
    card = Path("README.md").read_text().split("ONNX Runtime, any batch and length:")[1]
    told: dict[str, Any] = {"tokenizer": load_tokenizer(Path())}
    exec(card.split("```python")[1].split("```")[0], told)
    assert told["logits"].shape == (2, 2)
