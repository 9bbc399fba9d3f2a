"""A pruned checkpoint is a model like any: it is pruned again, of either layout, and loads as ever."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from core.domains.folder import PRUNED
from core.domains.structure import Structure
from core.domains.transformer.load import load_network, read_architecture
from core.domains.transformer.model import read_model
from core.domains.transformer.parts import units
from core.pruning.reading.tokenizer import load_tokenizer
from core.spec.errors import SpecError
from core.spec.report import Report
from tests.tiny import TARGET, done, rows, save_table, spec_of


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return {TARGET: save_table(tmp_path_factory.mktemp("rows") / "rows.parquet", rows(120))}


def pruned(model: Path, table: Mapping[str, Path], workdir: Path, **asked: Any) -> Report:
    """Report of a short job, whose checkpoint is then in `workdir/output`."""
    return done(spec_of(**asked), model, table, workdir)


@pytest.fixture(scope="module")
def once(tiny: Path, table: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose layers differ, narrower than the model that it was made of."""
    folder = tmp_path_factory.mktemp("once")
    report = pruned(tiny, table, folder, hidden_size="trim", budget={"params": 0.3, "of": "model"})
    assert (report.structure.hidden or 64) < 64 and len({*report.structure.neurons}) > 1
    assert PRUNED not in report.warnings
    return folder / "output"


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        {"budget": {"params": 0.5}},
        {"method": {"name": "l0"}, "train": {"steps": {"teach": 4, "prune": 16, "recover": 4}}},
        {"method": {"name": "pdp"}, "train": {"steps": {"teach": 4, "prune": 16, "recover": 4}}},
        {"method": {"name": "magnitude"}, "hidden_size": "trim", "budget": {"bytes": 0.5}},
    ],
    ids=["fisher", "l0", "pdp", "narrower"],
)
def test_it_is_pruned_again(once: Path, table: Mapping[str, Path], tmp_path: Path, asked: dict[str, Any]) -> None:
    given = read_model(once)
    network = load_network(once, ["neg", "pos"], seed=0)
    assert units(network) == Structure.dense(given.architecture.anatomy)
    report = pruned(once, table, tmp_path, **asked)  # verified in a fresh process, both ways
    budget = report.budget
    whole = given.encoder_params if budget.cost == "params" else (once / "model.safetensors").stat().st_size
    assert budget.dense == whole and 0.9 * budget.limit <= budget.met <= budget.limit == whole // 2
    assert PRUNED in report.warnings and report.results.given
    again = read_model(tmp_path / "output")
    assert again.pruned and again.encoder_params == report.results.pruned.encoder_params
    kept = Structure.from_json(json.loads((tmp_path / "output/structure.json").read_text()))
    assert given.architecture.earlier and again.architecture.earlier
    assert again.architecture.earlier.sizes() == kept.through(given.architecture.earlier).sizes()


def test_one_of_a_regular_layout_too(tiny: Path, table: Mapping[str, Path], tmp_path: Path) -> None:
    pruned(tiny, table, tmp_path / "first", export={"layout": "regular"})
    given = read_model(tmp_path / "first/output")
    assert given.pruned and given.architecture.earlier is None
    report = pruned(tmp_path / "first/output", table, tmp_path / "second")
    assert report.budget.limit == given.encoder_params // 2
    assert PRUNED in report.warnings


def test_its_code_is_not_run_and_what_does_not_fit_is_refused(
    once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in once.iterdir():
        content = b"raise SystemExit" if file.suffix == ".py" else file.read_bytes()
        (tmp_path / file.name).write_bytes(content)
    load_network(tmp_path, ["neg", "pos"], seed=0)
    monkeypatch.setattr("builtins.input", lambda _asked="": "y")  # which a terminal is asked for
    (tmp_path / "tokenizer_config.json").rename(tmp_path / "none.json")
    load_tokenizer(tmp_path)
    with pytest.raises(SpecError, match=r"cannot read its config\.json"):
        read_architecture(tmp_path)
    (tmp_path / "none.json").rename(tmp_path / "tokenizer_config.json")
    with pytest.raises(SpecError, match="this one has no head"):
        load_network(tmp_path, ["neg", "pos", "new"], seed=0, fitted=True)
    network = load_network(tmp_path, ["neg", "pos", "new"], seed=0)  # a head of its own
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    config = json.loads((once / "config.json").read_text())
    weights = load_file(once / "model.safetensors")
    shape = config["topwork"]
    for wrong in (
        [],
        {},
        shape | {"neurons": [10**12] * 3},
        shape | {"heads": [[0, 0]] * 3},
        shape | {"heads": [[99]] * 3},
        shape | {"hidden": 65},
        {"heads": [[]] * 3, "neurons": [0] * 3},
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | {"topwork": wrong}))
        with pytest.raises(SpecError, match="'topwork'"):
            read_model(tmp_path)
    less = [max(0, count - 1) for count in shape["neurons"]]
    (tmp_path / "config.json").write_text(json.dumps(config | {"topwork": shape | {"neurons": less}}))
    with pytest.raises(SpecError, match="under 'topwork' of ffn"):
        read_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(weights | {"bert.extra.weight": weights["classifier.weight"].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(SpecError, match="what its config"):
        load_network(tmp_path, ["neg", "pos"], seed=0)
    del weights["bert.embeddings.LayerNorm.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(SpecError, match="lack"):
        load_network(tmp_path, ["neg", "pos"], seed=0)


@pytest.mark.parametrize("asked", [{"export": {"layout": "regular"}}, {"budget": {"sparsity": 0.5}}])
def test_a_plain_config_cannot_say_it(
    once: Path, table: Mapping[str, Path], tmp_path: Path, asked: dict[str, Any]
) -> None:
    with pytest.raises(SpecError, match="layers differ since it was pruned"):
        pruned(once, table, tmp_path, **asked)
