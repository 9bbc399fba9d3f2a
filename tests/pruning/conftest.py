"""Tiny models on disk, built once."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from core.domains.cost import Cost
from core.domains.transformer.costs import Costs
from core.domains.transformer.load import load_network
from core.domains.transformer.network import TransformerNetwork
from core.pruning.job import goal, publish
from core.pruning.latency import passes
from core.pruning.training import checkpoint
from core.rows.text.processor import Text
from tests.fresh import Fresh
from tests.tiny import SOURCE, TARGET, rows, save_table, save_tiny_model

IDS = Text(SimpleNamespace(pad_token_id=0), 128)  # of rows that are token ids already


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_other_tests() -> Iterator[None]:
    """Which are the other work beside a job whose limit in time is out of reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(goal, "quieten", lambda *_: False)
        yield


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """Whatever ran before in this process."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_save_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test hears is the same on a slow machine."""
    monkeypatch.setattr(checkpoint, "EVERY_S", 1e9)


@pytest.fixture(scope="session")
def fresh(short_tmp: Path) -> Iterator[Fresh]:
    """The start of a command line whose process has torch and transformers, and nothing else, from the first moment."""
    fresh = Fresh(Path(tempfile.mkdtemp(dir=short_tmp)))
    yield fresh
    fresh.stop()


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch, fresh: Fresh) -> None:
    """What a whole job does besides is short: fresh processes import nothing large, latency is seen in few passes."""
    monkeypatch.setattr(publish, "PYTHON", fresh)
    monkeypatch.setattr(passes, "REPEATS", dict.fromkeys(passes.REPEATS, 1))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def averaging(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a modules.json that names the mean."""
    folder = tmp_path_factory.mktemp("models") / "averaging"
    shutil.copytree(tiny, folder)
    kinds = {"0": ("", "Transformer"), "1": ("1_Pooling", "Pooling")}
    said = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.values()]
    (folder / "modules.json").write_text(json.dumps(said))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return folder


@pytest.fixture
def network(tiny: Path) -> TransformerNetwork:
    """The tiny model with random weights everywhere, biases and LayerNorms too, so that nothing cancels by chance."""
    network = load_network(tiny, ["neg", "pos"], seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network.eval()


@pytest.fixture
def cost(network: TransformerNetwork) -> Cost:
    """Its parameters."""
    return costs_of(network).params


def costs_of(network: TransformerNetwork, length: int = 16) -> Costs:
    """From the shapes of the plain model's parameters."""
    shapes = {name: tuple(p.shape) for name, p in network.assembled().named_parameters()}
    return Costs.from_shapes(network.architecture, shapes, length)


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Target and source as Parquet; the target's texts hold what Python, but no JSON, takes for ends of lines."""
    folder = tmp_path_factory.mktemp("data")
    paths = {TARGET: folder / "target.parquet", SOURCE: folder / "source.parquet"}
    target = rows(200, seed=0)
    target["text"] = [str(text).replace(" ", "\u2028\u2029\x85"[i % 3], 1) for i, text in enumerate(target["text"])]
    save_table(paths[TARGET], target)
    save_table(paths[SOURCE], rows(300, seed=1))
    return paths
