"""Reading models, and writing checkpoints that load side by side."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from api.planning.catalogue import find
from core.domains.structure import Structure
from core.domains.transformer.cut import cut
from core.domains.transformer.load import load_network
from core.domains.transformer.network import TransformerNetwork
from core.pruning.reading.tokenizer import load_tokenizer
from core.pruning.training import predict as predict_module
from core.pruning.training.predict import autocast
from core.spec.errors import SpecError
from tests.tiny import rows


def test_a_model_without_tokenizer_is_refused(tiny: Path, tmp_path: Path) -> None:
    """transformers would go on with an empty one, and the job would learn from unknown tokens alone."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny / name, folder)
    with pytest.raises(SpecError, match="has no tokenizer") as caught:
        load_tokenizer(folder)
    assert caught.value.field == "/model"


@pytest.mark.parametrize(
    ("dropped", "refused"),
    [("embeddings.word_embeddings", True), ("encoder.layer.1.output.dense", True), ("pooler.", False)],
)
def test_weights_that_are_missing_are_never_made_up(tiny: Path, tmp_path: Path, dropped: str, refused: bool) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith(dropped)}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    if not refused:
        load_network(folder, ["neg", "pos"], seed=0)
        return
    with pytest.raises(SpecError, match=dropped) as caught:
        load_network(folder, ["neg", "pos"], seed=0)
    assert caught.value.field == "/model"


def test_weights_in_parts_are_the_same_model(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "parts", ignore=shutil.ignore_patterns("*.safetensors")))
    AutoModel.from_pretrained(tiny).save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    whole, parts = (load_network(path, ["neg", "pos"], seed=0).state_dict() for path in (tiny, folder))
    assert all(whole[name].equal(parts[name]) for name in whole)
    assert find(tmp_path, "parts").costs() == find(tiny.parent, tiny.name).costs()


@pytest.mark.parametrize(
    ("file", "holds", "says"),
    [
        ("tokenizer.json", "{ not json", "cannot read its tokenizer"),
        ("config.json", {"hidden_act": "nonsense"}, "cannot read its config.json and weights: KeyError: 'nonsense'"),
        ("config.json", {"initializer_range": None}, "cannot read its config.json"),
        ("model.safetensors", None, "numbers that are not finite"),
    ],
)
def test_what_transformers_cannot_read_is_the_models_fault(
    tiny: Path, tmp_path: Path, file: str, holds: Any, says: str
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    if isinstance(holds, dict):
        holds = json.dumps(json.loads((folder / file).read_text()) | holds)
    if holds is None:
        weights = load_file(folder / file)
        weights["encoder.layer.1.output.dense.weight"][3, 3] = torch.nan
        save_file(weights, folder / file, metadata={"format": "pt"})
    else:
        (folder / file).write_text(holds)
    with pytest.raises(SpecError, match=says) as caught:
        load_network(folder, ["neg", "pos"], seed=0)
        load_tokenizer(folder)
    assert caught.value.field == "/model" and str(tmp_path) not in str(caught.value)


def test_a_tokenizer_that_names_no_padding_pads_with_what_it_has(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    for file in (*folder.glob("special_tokens_map.json"), folder / "tokenizer_config.json"):
        file.unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    assert load_tokenizer(folder).pad_token == "[PAD]"
    tokens = json.loads((folder / "tokenizer.json").read_text().replace("[PAD]", "[A]").replace("[UNK]", "[B]"))
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    with pytest.raises(SpecError, match="no padding token"):
        load_tokenizer(folder)


def test_a_vocabulary_of_sentencepiece_is_read(tmp_path: Path) -> None:
    """As DeBERTa-v3 comes: `spm.model` and no tokenizer.json."""
    texts, special = list(map(str, rows(200)["text"])), ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
    with (tmp_path / "spm.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=file,
            vocab_size=60,
            hard_vocab_limit=False,
            minloglevel=2,
            **{f"{name}_id": i for i, name in enumerate(("pad", "bos", "eos", "unk"))},
            **{f"{name}_piece": piece for name, piece in zip(("pad", "bos", "eos", "unk"), special, strict=True)},
        )
    (tmp_path / "config.json").write_text('{"model_type": "deberta-v2"}')
    tokenizer = load_tokenizer(tmp_path)
    word = texts[0].split()[0]
    assert tokenizer.decode(tokenizer(word)["input_ids"], skip_special_tokens=True) == word
    assert tokenizer.is_fast and tokenizer.pad_token == "[PAD]"


def test_a_head_for_other_classes_gives_way(tiny: Path, tmp_path: Path) -> None:
    """A model that was fine-tuned for three classes can be pruned for a task with two."""
    load_network(tiny, ["a", "b", "c"], seed=0).assembled().save_pretrained(tmp_path / "three")
    network = load_network(tmp_path / "three", ["neg", "pos"], seed=0)
    assert network.heads["target"].out_features == 2


def test_a_head_that_knows_the_labels_is_put_into_their_order(tiny: Path, tmp_path: Path) -> None:
    first = load_network(tiny, ["a", "b", "c"], seed=9)
    first.assembled().save_pretrained(tmp_path / "known")
    config = json.loads((tmp_path / "known/config.json").read_text())
    config |= {"id2label": dict(enumerate("cab")), "label2id": None}
    (tmp_path / "known/config.json").write_text(json.dumps(config))
    again = load_network(tmp_path / "known", ["a", "b", "c"], seed=0)
    torch.testing.assert_close(again.heads["target"].weight, first.heads["target"].weight[[1, 2, 0]])
    for seeds in ((0, 0), (0, 1)):  # what each class was is not known: a head of its own, by the seed
        heads = [load_network(tmp_path / "known", ["a", "b", "d"], seed).heads["target"] for seed in seeds]
        assert heads[0].weight.equal(heads[1].weight) == (len({*seeds}) == 1)
        assert not heads[0].weight.isclose(first.heads["target"].weight).any() and not heads[0].bias.any()


@pytest.mark.parametrize(
    "said",
    [
        {"torch_dtype": "torch.bfloat16"},
        {"dtype": "torch.bfloat16"},
        {"_attn_implementation": "flash_attention_2"},
        {"attn_implementation": "flex_attention", "output_attentions": True},
        {"id2label": {"0": 5, "one": None}, "num_labels": 7, "problem_type": "regression", "return_dict": False},
    ],
)
def test_what_is_ours_to_say_of_a_model_is_not_left_to_its_configuration(
    tiny: Path, tmp_path: Path, said: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | said))
    network, plain = (load_network(path, ["neg", "pos"], seed=0) for path in (folder, tiny))
    assert network.body.config._attn_implementation == plain.body.config._attn_implementation
    ours, theirs = (one.body.config.to_dict() | {"_name_or_path": ""} for one in (network, plain))
    assert ours == theirs
    batch = {"input_ids": torch.arange(5, 15)[None], "attention_mask": torch.ones(1, 10, dtype=torch.long)}
    torch.testing.assert_close(network.eval().logits(batch), plain.eval().logits(batch))


def test_a_body_of_another_shape_is_refused(tiny: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny, tmp_path / "model"))
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"intermediate_size": 128', '"intermediate_size": 96'))
    with pytest.raises(SpecError, match="in another shape"):
        load_network(folder, ["neg", "pos"], seed=0)


def test_a_narrow_network_is_trained_in_float32_on_a_cpu(
    network: TransformerNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_module, "low_precision", lambda: True)
    monkeypatch.setattr(predict_module, "device", lambda: torch.device("cpu"))
    layers, heads, neurons = 3, 4, 128

    def in_bfloat16(kept: int) -> bool:
        cut(network, Structure.of([range(heads)] * layers, [range(kept)] * layers))
        with autocast(network):
            return torch.is_autocast_enabled("cpu")

    assert in_bfloat16(neurons) and in_bfloat16(neurons // 2 + 1) and not in_bfloat16(neurons // 2)
