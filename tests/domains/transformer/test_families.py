"""Every family on a small random model: masked == cut, cost == counted, saved == loaded."""

from __future__ import annotations

import copy
import importlib.util
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from onnxruntime import InferenceSession
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from safetensors.torch import save
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from api.planning.catalogue import find
from core.domains.gates import Gates
from core.domains.structure import Structure
from core.domains.transformer.cut import cut, reshape
from core.domains.transformer.families import FAMILIES, Family
from core.domains.transformer.gates import gated
from core.domains.transformer.load import load_network
from core.domains.transformer.magnitude import norms
from core.domains.transformer.model import read_model
from core.domains.transformer.network import TransformerNetwork
from core.domains.transformer.parts import hidden_size, longest_text, units
from core.pruning.export.files import write_model
from core.pruning.latency.int8 import write_int8
from core.pruning.latency.onnx import write_onnx
from core.pruning.reading.tokenizer import load_tokenizer
from core.pruning.training.contrast import fit_head, pair_loss
from core.pruning.training.predict import predict
from core.rows.text.processor import Text
from core.spec.errors import SpecError
from core.spec.job import Pooling
from core.spec.task import ProblemType
from tests.pruning.conftest import costs_of
from tests.tiny import TARGET, done, rows, run_apart, save_table, spec_of, stream

LAYERS, HEADS, NEURONS, HIDDEN, LENGTH = 3, 4, 24, 32, 12
GROUPED = {"num_attention_heads": 2 * HEADS, "num_key_value_heads": HEADS}  # two query heads share key and value
RELATIVE = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "norm_rel_ebd": "layer_norm",
    "type_vocab_size": 0,
}
# Whose answer is read from the mean of the tokens, which no plain config.json says.
MEAN = {f"{name}-mean": name for name in ("bert", "roberta", "distilbert", "mpnet", "deberta-v2")}
# Model folder -> family, where it is not its own, and options of config.json.
MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{name: (name, {}) for name in FAMILIES},
    "llama": ("llama", GROUPED),
    "llama-biased": ("llama", {"attention_bias": True, "mlp_bias": True, "head_dim": 6}),
    "qwen2": ("qwen2", GROUPED | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
    "qwen3": ("qwen3", GROUPED | {"head_dim": 6}),
    "deberta-v2": ("deberta-v2", RELATIVE | {"embedding_size": 24}),
    "deberta-v3": ("deberta-v2", RELATIVE | {"position_buckets": 8, "share_att_key": True}),
    "deberta-plain": ("deberta-v2", {}),
    **{name: (family, {}) for name, family in MEAN.items()},
}
STRUCTURES = [
    Structure.of([[0, 2], [1], [3]], [[1, 5, 9], range(24), [0]]),
    Structure.of([[], [0, 1, 3], []], [[], [4, 7], range(5)]),
    Structure.of([[], [], []], [[], [], []]),
]
# With 20 of the hidden dimensions.
NARROW = Structure.of([[], [0, 1, 3], [2]], [[1, 5], [], range(5)], hidden=[*range(0, 32, 2), 1, 5, 9, 31])


@pytest.fixture(scope="module")
def folders(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of each family, its body alone."""
    root = tmp_path_factory.mktemp("models")
    for name, (family, special) in MODELS.items():
        values: dict[str, Any] = dict(zip(FAMILIES[family].sizes, (HIDDEN, HEADS, LAYERS, NEURONS), strict=True))
        values |= {"vocab_size": 80, "max_position_embeddings": 64, "pad_token_id": 1, "classifier_pooling": "mean"}
        config = AutoConfig.for_model(family, **values | {"attention_dropout": 0.3, "mlp_dropout": 0.3} | special)
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(root / name)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(tiny / file, root / name)
    return root


@pytest.fixture(scope="module", params=sorted(MODELS))
def folder(request: pytest.FixtureRequest, folders: Path) -> Path:
    """One of them."""
    return folders / str(request.param)


@pytest.fixture
def model(folder: Path) -> TransformerNetwork:
    """With random weights everywhere, so that nothing cancels by chance."""
    return loaded(folder)


def loaded(folder: Path, problem: ProblemType = "single_label_classification") -> TransformerNetwork:
    """The same each time."""
    pooling: Pooling | None = "mean" if folder.name in MEAN else None
    network = load_network(folder, ["a", "b", "c"], seed=0, problem=problem, pooling=pooling)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network.eval()


def regular(family: Family) -> Structure:
    """What a plain config.json can say: whole layers, one width, and fewer heads where it names their size."""
    heads = [[1, 3], [], [0, 2]] if family.says_head_size else [range(4), [], range(4)]
    return Structure.of(heads, [[1, 5, 9], [], range(3)], dropped=[1])


@pytest.fixture(scope="module")
def saved(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cut model of each family, and what each says once it is loaded, in both ways, with nothing of ours."""
    root = tmp_path_factory.mktemp("saved")
    for name in sorted(MODELS):
        smaller = loaded(folders / name)
        cut(smaller, STRUCTURES[1])
        write_model(smaller, STRUCTURES[1], Text(load_tokenizer(folders / name), 128), root / name)
        narrow = loaded(folders / name)
        cut(narrow, NARROW)
        write_model(narrow, NARROW, Text(load_tokenizer(folders / name), 128), root / f"{name}-narrow")
        if name in MEAN:
            continue
        plain = loaded(folders / name)
        structure = regular(plain.architecture.family)
        cut(plain, structure)
        write_model(plain, structure, Text(load_tokenizer(folders / name), 128), root / "plain" / name, plain=True)
    (root / "inputs.json").write_text(json.dumps({name: column.tolist() for name, column in inputs().items()}))
    script = """
import importlib.util, json, pathlib, torch
from transformers import AutoModel, AutoModelForSequenceClassification
inputs = {name: torch.tensor(column) for name, column in json.load(open("inputs.json")).items()}
said = {}
for folder in sorted(path.parent for path in pathlib.Path(".").glob("*/load.py")):
    spec = importlib.util.spec_from_file_location("load", folder / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    one, _ = module.load(folder)
    other = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
    models = [one, other]
    body, how = AutoModel.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    assert not any(how.values()), how
    first = int("-mean" in folder.name)  # where the head's reads the mean
    states = [model.eval()(**inputs).last_hidden_state[:, first:] for model in (body, one.base_model)]
    assert torch.allclose(*states, atol=1e-5)
    if not folder.name.endswith(("-narrow", "-mean")):
        where = f"plain/{folder.name}"
        plain, how = AutoModelForSequenceClassification.from_pretrained(where, output_loading_info=True)
        assert not any(how.values()), how
        models.append(plain.eval())
    said[folder.name] = [model(**inputs).logits.tolist() for model in models]
json.dump(said, open("said.json", "w"))
"""
    run_apart(script, root)
    return root


def inputs(count: int = 2) -> dict[str, torch.Tensor]:
    """The last row is padded, where there are several."""
    ids = torch.randint(5, 61, (count, LENGTH), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if count > 1:
        ids[-1, 7:], mask[-1, 7:] = 1, 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("structure", [*STRUCTURES, NARROW])
def test_masked_equals_cut(model: TransformerNetwork, structure: Structure) -> None:
    dense = Structure.dense(model.architecture.anatomy)
    smaller = copy.deepcopy(model)
    cut(smaller, structure)
    with torch.inference_mode():
        with gated(model, Gates.of(structure, dense.anatomy, HIDDEN), dense):
            masked = model.logits(inputs())
        logits = smaller.logits(inputs())
        assert not torch.allclose(masked, model.logits(inputs()), atol=1e-3)
    torch.testing.assert_close(logits, masked, atol=2e-5, rtol=0)
    assert units(smaller).sizes() == replace(structure, hidden=None).sizes()
    assert hidden_size(smaller) == len(structure.hidden or range(HIDDEN))
    again = copy.deepcopy(model)
    reshape(again, Structure.from_json(json.loads(json.dumps(structure.to_json()))))
    again.load_state_dict(smaller.state_dict(), strict=True)
    with torch.inference_mode():
        assert torch.equal(again.logits(inputs()), logits)


@pytest.mark.slow
@pytest.mark.parametrize("folder", sorted(MODELS), indirect=True)
@pytest.mark.parametrize(("suffix", "structure"), [("", STRUCTURES[1]), ("-narrow", NARROW)])
def test_a_saved_model_is_given_and_cut_again(
    saved: Path, folder: Path, model: TransformerNetwork, suffix: str, structure: Structure, tmp_path: Path
) -> None:
    first = saved / f"{folder.name}{suffix}"
    given, again = read_model(first), load_network(first, ["a", "b", "c"], seed=9).eval()
    cut(model, structure)
    with torch.inference_mode():
        torch.testing.assert_close(again.logits(inputs()), model.logits(inputs()), atol=1e-6, rtol=0)
    assert units(again) == Structure.dense(given.architecture.anatomy)
    costs = costs_of(again)
    assert costs.params.dense == sum(p.numel() for p in layers_of(again).parameters())
    assert given.costs(3, costs.length) == replace(costs, architecture=given.architecture)
    half = Structure(tuple(row[len(row) // 2 :] for row in units(again).kept))
    assert costs.params.of(half) < costs.params.dense
    cut(again, half)
    assert costs.params.of(half) == sum(p.numel() for p in layers_of(again).parameters())
    write_model(again, half, Text(load_tokenizer(first), 128), tmp_path / "half")
    third = load_network(tmp_path / "half", ["a", "b", "c"], seed=9).eval()
    with torch.inference_mode():
        assert torch.equal(third.logits(inputs()), again.logits(inputs()))


@pytest.mark.parametrize("name", sorted({*MODELS} - {*MEAN}))
def test_a_saved_model_is_given_for_words(saved: Path, name: str) -> None:
    """The head of the whole text is left behind."""
    texts = load_network(saved / name, ["a", "b", "c"], seed=0)
    words = load_network(saved / name, ["O", "B-PER"], seed=0, problem="token_classification")
    layers = layers_of(texts).state_dict()
    assert all(torch.equal(layers[key], weight) for key, weight in layers_of(words).state_dict().items())
    with torch.inference_mode():
        assert words.eval().logits(inputs()).shape == (2, LENGTH, 2)


@pytest.mark.slow
@pytest.mark.parametrize("folder", sorted(MODELS), indirect=True)
def test_a_saved_model_loads_every_way(saved: Path, folder: Path, model: TransformerNetwork) -> None:
    """What a process with nothing of ours said of the inputs (see `saved`)."""
    every = json.loads((saved / "said.json").read_text())
    said = [*every[folder.name], *every[f"{folder.name}-narrow"]]
    plain = [] if folder.name in MEAN else [regular(model.architecture.family)]
    structures = (STRUCTURES[1], STRUCTURES[1], *plain, NARROW, NARROW)
    for loaded, structure in zip(said, structures, strict=True):
        smaller = copy.deepcopy(model)
        cut(smaller, structure)
        with torch.inference_mode():
            logits = smaller.logits(inputs())
        torch.testing.assert_close(torch.tensor(loaded), logits, atol=1e-5, rtol=0)
    assert sorted(path.name for path in (saved / "plain").glob("*/*.py")) == []


def test_a_dropped_layer_is_passed_by(model: TransformerNetwork) -> None:
    """What enters it leaves it, LayerNorms included."""
    structure = regular(model.architecture.family)
    smaller = copy.deepcopy(model)
    cut(smaller, structure)
    dense = Structure.dense(model.architecture.anatomy)
    layer = layers_of(model)[1]
    handle = layer.register_forward_hook(
        lambda _layer, args, out: (args[0], *out[1:]) if isinstance(out, tuple) else args[0]
    )
    with torch.inference_mode():
        with gated(model, Gates.of(structure, dense.anatomy), dense):
            skipped = model.logits(inputs())
        handle.remove()
        torch.testing.assert_close(smaller.logits(inputs()), skipped, atol=2e-5, rtol=0)
    assert units(smaller).sizes() == structure.remaining().sizes()
    again = copy.deepcopy(model)
    reshape(again, structure)
    again.load_state_dict(smaller.state_dict(), strict=True)
    with torch.inference_mode():
        assert torch.equal(again.logits(inputs()), smaller.logits(inputs()))


def layers_of(model: TransformerNetwork) -> Any:
    """The list of layers."""
    family = model.architecture.family
    return model.body.get_submodule(f"{family.base}.{family.layers}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "structure"),
    [
        *((name, NARROW) for name in sorted(MODELS)),
        *((name, STRUCTURES[0]) for name in ("bert", "deberta-v3", "llama")),
    ],
    indirect=["folder"],
)
@pytest.mark.field(
    "2. Models in, checkpoints out",
    "`quantize_dynamic` on `model.onnx`, every family",
    "it runs, and answers nearly alike",
)
def test_onnx_runtime_says_the_same_of_any_batch_and_length(
    model: TransformerNetwork, structure: Structure, tmp_path: Path
) -> None:
    cut(model, structure)
    write_onnx(model.assembled(), inputs(), tmp_path / "model.onnx")
    session = InferenceSession(tmp_path / "model.onnx")
    write_int8(tmp_path / "model.onnx", tmp_path / "model.int8.onnx")
    ours = InferenceSession(tmp_path / "model.int8.onnx")
    quantised = quantised_by_onnx_runtime(tmp_path / "model.onnx")
    for ids in (torch.tensor([[7, 8, 9]]), torch.randint(5, 61, (5, 40))):
        mask = torch.ones_like(ids)
        mask[-1, 2:] = 0
        ids[-1, 2:] = model.body.config.pad_token_id or 0  # what is read of a row ends where its padding begins
        columns = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        (said,) = session.run(["logits"], columns)
        with torch.inference_mode():
            logits = model.logits({"input_ids": ids, "attention_mask": mask})
        torch.testing.assert_close(torch.from_numpy(said), logits, atol=1e-4, rtol=0)
        for session_of_8_bits in (quantised, ours):
            (rounded,) = session_of_8_bits.run(["logits"], columns)
            assert 0 < abs(rounded - said).max() < 0.5 * abs(said).max()


def quantised_by_onnx_runtime(exported: Path, **prepared: Any) -> InferenceSession:
    """The dynamically quantised model; with `prepared`, options of the step that is advised before."""
    if prepared:
        quant_pre_process(exported, exported.with_name("prepared.onnx"), **prepared)
        exported = exported.with_name("prepared.onnx")
    quantize_dynamic(exported, exported.with_name("quantised.onnx"))
    return InferenceSession(exported.with_name("quantised.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "problem"),
    [("bert", "token_classification"), ("deberta-v2", "regression"), ("llama", "multi_label_classification")],
    indirect=["folder"],
)
@pytest.mark.field(
    "2. Models in, checkpoints out",
    "`quantize_dynamic`: words, numbers, several labels, empty layers",
    "it runs, and answers nearly alike",
)
def test_onnx_runtime_quantises_a_head_of_every_kind(
    folder: Path, problem: ProblemType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model with layers that have no head, or no neuron; after ONNX Runtime's own preparation, too."""
    monkeypatch.chdir(tmp_path)  # where that preparation leaves files behind
    model = loaded(folder, problem)
    cut(model, STRUCTURES[1])
    write_onnx(model.assembled(), inputs(), tmp_path / "model.onnx")
    columns = {name: column.numpy() for name, column in inputs(3).items()}
    (said,) = InferenceSession(tmp_path / "model.onnx").run(["logits"], columns)
    for prepared in ({}, {"auto_merge": True}):
        (rounded,) = quantised_by_onnx_runtime(tmp_path / "model.onnx", **prepared).run(["logits"], columns)
        assert 0 < abs(rounded - said).max() < 0.5 * abs(said).max()


def test_every_weight_that_goes_with_a_unit_is_in_one_norm(model: TransformerNetwork) -> None:
    cost, family = costs_of(model).params, model.architecture.family
    owned = sum(price * block.square().sum().item() for block, price in zip(norms(model), cost.unit, strict=True))
    layers = model.body.get_submodule(f"{family.base}.{family.layers}")
    wanted = 0.0
    for name, module in layers.named_modules():
        if isinstance(module, torch.nn.Linear):
            shared = module.bias is None or name.endswith((family.attention_out, family.ffn_out))
            wanted += module.weight.square().sum().item() + (0.0 if shared else module.bias.square().sum().item())
    assert owned == pytest.approx(wanted, rel=1e-5)


def test_costs_are_what_is_counted(model: TransformerNetwork, folder: Path) -> None:
    whole_costs = costs_of(model, LENGTH)
    # The API reads the file's header.
    asked = spec_of(pooling="mean" if folder.name in MEAN else "auto")
    given, _ = find(folder.parent, folder.name).answering(asked, ["a", "b", "c"])
    assert whole_costs == given.costs(labels=3, length=LENGTH)
    every = [*STRUCTURES, regular(model.architecture.family), Structure.dense(model.architecture.anatomy)]
    for structure in [*every, NARROW]:
        costs, smaller = whole_costs.of(structure), copy.deepcopy(model)
        assert (costs.bytes.before, costs.macs.before) == (whole_costs.bytes.before, whole_costs.macs.before)
        cut(smaller, structure)
        whole = smaller.assembled()
        assert costs.params.of(structure) == sum(p.numel() for p in layers_of(smaller).parameters())
        assert costs.params.model(structure) == sum(p.numel() for p in whole.parameters())
        weights = len(save(whole.state_dict(), metadata={"format": "pt"}))
        assert weights <= costs.bytes.model(structure) <= weights + 150 * len(model.assembled().state_dict())
        whole.set_attn_implementation("eager")
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            whole(**inputs(count=1))
        assert 2 * costs.macs.model(structure) == counter.get_total_flops()


@pytest.mark.parametrize("folder", sorted({*MODELS} - {*MEAN}), indirect=True)
@pytest.mark.parametrize("structure", [STRUCTURES[1], NARROW])
def test_a_head_on_every_token(folder: Path, structure: Structure, tmp_path: Path) -> None:
    """Masked == cut, cost == counted (the API counts alike), saved == loaded: as with a head on the whole text."""
    model = loaded(folder, "token_classification")
    model.add_head("other", 2)
    dense = Structure.dense(model.architecture.anatomy)
    costs = costs_of(model, LENGTH)
    assert costs == find(folder.parent, folder.name, "token_classification").costs(labels=3, length=LENGTH)
    costs = costs.of(structure)
    with torch.inference_mode(), gated(model, Gates.of(structure, dense.anatomy, HIDDEN), dense):
        masked, other = model.logits(inputs()), model.logits(inputs(), "other")
    cut(model, structure)
    with torch.inference_mode():
        torch.testing.assert_close(model.logits(inputs(), "other"), other, atol=2e-5, rtol=0)
    with torch.inference_mode():
        logits = model.logits(inputs())
    assert logits.shape == (2, LENGTH, 3)
    torch.testing.assert_close(logits, masked, atol=2e-5, rtol=0)

    whole = model.assembled()
    assert costs.params.model(structure) == sum(p.numel() for p in whole.parameters())
    write_model(model, structure, Text(load_tokenizer(folder), 128), tmp_path / "saved")
    spec = importlib.util.spec_from_file_location("load", tmp_path / "saved" / "load.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with torch.inference_mode():
        torch.testing.assert_close(module.load()[0](**inputs()).logits, logits, atol=1e-5, rtol=0)
    whole.set_attn_implementation("eager")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        whole(**inputs(1))
    assert 2 * costs.macs.model(structure) == counter.get_total_flops()


def test_a_family_without_a_head_for_words_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="family 'other' has no token classification here; these do: bert,") as caught:
        Family("other", "OtherForSequenceClassification", "other").for_words()
    assert caught.value.field == "/model"


@pytest.mark.parametrize("folder", sorted(MODELS), indirect=True)
def test_a_number_needs_a_bias_in_the_head(folder: Path, model: TransformerNetwork) -> None:
    family, values = model.architecture.family, inputs()
    if family.head_layers[-1] in family.biasless:
        with pytest.raises(SpecError, match=f"family '{family.model_type}' has no bias in its head"):
            load_network(folder, ["stars"], seed=0, problem="regression")
        return
    network = load_network(folder, ["stars"], seed=0, problem="regression").eval()
    with torch.inference_mode():
        before = network.logits(values)
        network.rescale(2.0, 30.0)
        torch.testing.assert_close(network.logits(values), 2 * before + 30, atol=1e-4, rtol=0)


def test_cutting_twice_equals_cutting_once(model: TransformerNetwork) -> None:
    outer = Structure.of([[0, 2, 3], [1, 2], range(4)], [range(3, 20), range(24), range(8)])
    inner = Structure.of([[0, 3], [2], []], [range(4, 9), [0, 23], []])
    equal_when_cut_at_once_or_twice(model, outer, inner)
    outer, inner = (Structure.of(s.heads, s.neurons, dropped) for s, dropped in ((outer, [1]), (inner, [1, 2])))
    equal_when_cut_at_once_or_twice(model, outer, inner)
    narrow = replace(outer, hidden=tuple(range(4, 32)))
    equal_when_cut_at_once_or_twice(model, narrow, replace(inner, hidden=(5, *range(8, 31))))


def equal_when_cut_at_once_or_twice(model: TransformerNetwork, outer: Structure, inner: Structure) -> None:
    """`inner` lies within `outer`."""
    once, twice = copy.deepcopy(model), copy.deepcopy(model)
    cut(once, inner)
    cut(twice, outer)
    cut(twice, inner.within(outer))
    with torch.inference_mode():
        torch.testing.assert_close(twice.logits(inputs()), once.logits(inputs()), atol=1e-6, rtol=0)


@pytest.mark.parametrize("folder", sorted(MODELS), indirect=True)
def test_every_position_that_the_model_takes_can_be_used(model: TransformerNetwork) -> None:
    length = longest_text(model, 1000)
    assert length >= 62
    with torch.inference_mode():
        assert model.logits({"input_ids": torch.full((1, length), 7)}).shape == (1, 3)


def test_without_dropout_training_answers_as_evaluation(model: TransformerNetwork) -> None:
    model.drop_nothing()
    with torch.inference_mode():
        torch.testing.assert_close(model.train().logits(inputs()), model.eval().logits(inputs()))


def test_pairs_of_rows_are_taught_before_every_head(folder: Path) -> None:
    pooling: Pooling | None = "mean" if folder.name in MEAN else None
    network, drawn = load_network(folder, ["neg", "pos"], seed=0, pooling=pooling), stream(folder, 12, seed=0)
    loss = pair_loss(network, [drawn], [[*range(12)]])
    loss.backward()
    assert loss > 0 and all(parameter.grad is not None for parameter in layers_of(network).parameters())
    fit_head(network.eval(), drawn)
    assert predict(network, drawn.rows).shape == (12, 2)


def test_another_head_is_of_the_same_build(model: TransformerNetwork) -> None:
    model.add_head("other", 5)
    with torch.inference_mode():
        assert model.logits(inputs(), "other").shape == (2, 5)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["mpnet", "modernbert", "deberta-v3", "llama"], indirect=True)
def test_a_whole_job(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = rows(120)
    mixed["text"] = [f"{text} {text}" if i % 3 else text for i, text in enumerate(mixed["text"])]  # so that some pad
    table = save_table(tmp_path / "rows.parquet", mixed)
    spec = spec_of(model=folder.name, budget={"macs": 0.5}, export={"formats": ["onnx"]})
    report = done(spec, folder, {TARGET: table}, tmp_path / "work")
    assert report.budget.met <= report.budget.limit
    assert report.verified.max_difference_between_loaders < 1e-5
    assert 0 < report.verified.max_difference_onnx < 1e-5
    monkeypatch.chdir(tmp_path / "work" / "output")
    card = Path("README.md").read_text().split("ONNX Runtime, any batch")[1]
    told: dict[str, Any] = {"tokenizer": load_tokenizer(Path())}
    exec(card.split("```python")[1].split("```")[0], told)
    assert told["logits"].shape == (2, 2)
    session = InferenceSession("model.onnx")
    lines = [json.loads(line) for line in Path("test.jsonl").read_text().splitlines()]
    for row in sorted(lines, key=lambda row: len(row["text"][0]))[:5]:  # beside longer ones they were padded
        batch = told["tokenizer"](row["text"][0], return_tensors="np")
        alone = session.run(["logits"], {one.name: batch[one.name] for one in session.get_inputs()})[0][0]
        assert alone.tolist() == pytest.approx(row["logits"], abs=1e-4)
