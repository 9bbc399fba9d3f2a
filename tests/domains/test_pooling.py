"""How a sentence-transformers folder makes a vector: read as it is written, and refused where it is not known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from core.domains.transformer.embedder import head_of, pooled
from core.domains.transformer.model import read_model
from core.domains.transformer.pooling import MODES, Recipe, read_recipe
from core.spec.errors import SpecError
from tests.tiny import save_tiny_model

TRANSFORMER, POOLING, DENSE, NORMALIZE = (
    f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Dense", "Normalize")
)
MEAN = {"word_embedding_dimension": 8, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


def write(path: Path, said: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(said))


def modules(folder: Path, *kinds: str, pooling: Any = MEAN) -> Path:
    """A folder with these modules, the pooling's config among them."""
    said = []
    for i, kind in enumerate(kinds):
        name = "" if kind == TRANSFORMER else f"{i}_{kind.rpartition('.')[2]}"
        said.append({"idx": i, "name": str(i), "path": name, "type": kind})
        if kind == POOLING:
            write(folder / name / "config.json", pooling)
    write(folder / "modules.json", said)
    return folder


def dense(
    folder: Path, rows: int, columns: int, activation: str = "torch.nn.modules.activation.Tanh", **more: Any
) -> None:
    said = {"in_features": columns, "out_features": rows, "bias": True, "activation_function": activation}
    write(folder / "config.json", said | more)
    weights = {"linear.weight": torch.randn(rows, columns), "linear.bias": torch.randn(rows)}
    save_file(weights, folder / "model.safetensors")


@pytest.mark.parametrize(("flag", "mode"), MODES.items())
def test_the_pooling_is_read_by_its_flag(flag: str, mode: str, tmp_path: Path) -> None:
    """As sentence-transformers wrote it before 5.5; a type may lie anywhere there."""
    said = dict.fromkeys(MODES, False) | {flag: True, "word_embedding_dimension": 8, "include_prompt": True}
    recipe = read_recipe(modules(tmp_path, TRANSFORMER, POOLING, pooling=said))
    assert (recipe.pooling, recipe.dense, recipe.normalised) == (mode, (), False)
    assert recipe.says.endswith("(modules.json)")


@pytest.mark.parametrize(("name", "mode"), {"mean": "mean", "cls": "first", "lasttoken": "last", "max": "max"}.items())
def test_the_pooling_is_read_by_its_name(name: str, mode: str, tmp_path: Path) -> None:
    """As sentence-transformers writes it since 5.5."""
    kinds = [f"sentence_transformers.sentence_transformer.modules.{name}" for name in ("Transformer", "Pooling")]
    write(tmp_path / "1_Pooling" / "config.json", {"embedding_dimension": 8, "pooling_mode": name})
    write(tmp_path / "modules.json", [{"type": kinds[0], "path": ""}, {"type": kinds[1], "path": "1_Pooling"}])
    assert read_recipe(tmp_path).pooling == mode


def test_a_model_that_says_nothing_is_pooled_by_the_mean(tmp_path: Path) -> None:
    recipe = read_recipe(tmp_path)
    assert recipe == Recipe() and recipe.pooling == "mean" and "says nothing" in recipe.says


def test_what_is_behind_the_pooling_is_read_in_order(tmp_path: Path) -> None:
    modules(tmp_path, TRANSFORMER, POOLING, DENSE, DENSE, NORMALIZE)
    dense(tmp_path / "2_Dense", 6, 8)
    dense(tmp_path / "3_Dense", 4, 6, "torch.nn.modules.linear.Identity")
    recipe = read_recipe(tmp_path)
    assert [(one.rows, one.columns, one.activation) for one in recipe.dense] == [(6, 8, "Tanh"), (4, 6, "Identity")]
    assert recipe.normalised
    assert recipe.says == "mean of the tokens, a Dense layer, normalised (modules.json)"
    assert [*recipe.shapes("head", 8, True)] == [f"head.dense{i}.{part}" for i in (0, 1) for part in ("weight", "bias")]
    head = head_of(recipe, 8, mapped=True)
    vectors = torch.randn(3, 8)
    assert head(vectors).norm(dim=1).tolist() == pytest.approx([1, 1, 1])
    first = torch.tanh(head[0](vectors))
    torch.testing.assert_close(head(vectors), torch.nn.functional.normalize(head[2](first), dim=1))
    with pytest.raises(SpecError, match="the Dense layer in its 2_Dense does not fit what is before it"):
        head_of(recipe, 12, mapped=False)


@pytest.mark.parametrize("name", ["Identity", "Tanh", "ReLU", "GELU", "SiLU"])
def test_activations_are_known_by_the_end_of_their_path(name: str, tmp_path: Path) -> None:
    modules(tmp_path, TRANSFORMER, POOLING, DENSE)
    dense(tmp_path / "2_Dense", 6, 8, f"torch.nn.modules.activation.{name}")
    head = head_of(read_recipe(tmp_path), 8, mapped=False)
    assert type(head[1]).__name__ == name


def test_where_dimensions_go_vectors_keep_their_length(tmp_path: Path) -> None:
    """By a layer that changes nothing at first."""
    recipe = read_recipe(modules(tmp_path, TRANSFORMER, POOLING, NORMALIZE))
    head, vectors = head_of(recipe, 8, mapped=True), torch.randn(3, 8)
    assert recipe.shapes("head", 8, True) == {"head.dense0.weight": (8, 8)} and recipe.shapes("head", 8, False) == {}
    torch.testing.assert_close(head(vectors), torch.nn.functional.normalize(vectors, dim=1))


POOL = [{"type": TRANSFORMER, "path": ""}, {"type": POOLING, "path": "1_Pooling"}]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            [*POOL, {"type": "sentence_transformers.models.LSTM", "path": "2"}],
            "'LSTM' where it stands; known are Trans",
        ),
        ([{"type": "sentence_transformers.models.WordEmbeddings", "path": ""}], "has 'WordEmbeddings' where it stands"),
        ([POOL[1], POOL[0]], "has 'Transformer' where it stands"),
        ([*POOL, POOL[1]], "has 'Pooling' where it stands"),
        ([*POOL, {"type": NORMALIZE, "path": "2"}, {"type": DENSE, "path": "3"}], "has 'Dense' where it stands"),
        ([POOL[0]], "has no Pooling, so that it gives no vector of a text"),
        ([POOL[0], {"type": POOLING, "path": "../1_Pooling"}], "names a path outside its folder"),
        ([POOL[0], {"type": POOLING, "path": "/etc"}], "names a path outside its folder"),
        ([POOL[0], {"type": POOLING}], "is not a list of modules with 'type' and 'path'"),
        ([POOL[0], "Pooling"], "is not a list of modules with 'type' and 'path'"),
        ({"modules": POOL}, "is not a list of modules"),
        ([*POOL[:1], {"type": POOLING, "path": "elsewhere"}], "it has no config.json"),
    ],
)
def test_modules_that_are_not_known_are_refused(said: Any, message: str, tmp_path: Path) -> None:
    write(tmp_path / "1_Pooling" / "config.json", MEAN)
    write(tmp_path / "modules.json", said)
    with pytest.raises(SpecError) as caught:
        read_recipe(tmp_path)
    assert (caught.value.field, message in caught.value.message) == ("/model", True), caught.value.message


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[" * 200_000)
    with pytest.raises(SpecError, match="cannot be read as JSON"):
        read_recipe(tmp_path)


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode_weightedmean_tokens": True},
        {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
        {"pooling_mode_mean_tokens": False},
        {"pooling_mode": "weightedmean"},
        {"pooling_mode": ["mean", "cls"]},
        {},
    ],
)
def test_a_pooling_that_is_not_known_is_refused(pooling: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="its pooling is none of mean, first, last, max, or several at once") as caught:
        read_recipe(modules(tmp_path, TRANSFORMER, POOLING, pooling=pooling))
    assert caught.value.field == "/model"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"activation_function": "torch.nn.modules.activation.Softmax"},
            "has the activation 'Softmax'; known are Ident",
        ),
        ({"activation_function": "os.system"}, "has the activation 'system'"),
        ({"use_residual": True}, "is beside others, and not behind them"),
        ({"module_input_name": "token_embeddings"}, "is beside others, and not behind them"),
    ],
)
def test_a_dense_layer_that_is_not_known_is_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    modules(tmp_path, TRANSFORMER, POOLING, DENSE)
    dense(tmp_path / "2_Dense", 6, 8, **config)
    with pytest.raises(SpecError, match=message):
        read_recipe(tmp_path)


def test_weights_of_a_dense_layer_are_looked_at(tmp_path: Path) -> None:
    modules(tmp_path, TRANSFORMER, POOLING, DENSE)
    dense(tmp_path / "2_Dense", 6, 8)
    file = tmp_path / "2_Dense" / "model.safetensors"
    save_file({"linear.weight": torch.full((6, 8), float("nan"))}, file)
    with pytest.raises(SpecError, match="in its 2_Dense holds numbers that are not finite"):
        head_of(read_recipe(tmp_path), 8, mapped=False)
    save_file({"linear.weight": torch.ones(6, 8), "linear.bias": torch.ones(5)}, file)
    with pytest.raises(SpecError, match="its 2_Dense holds no Linear"):
        read_recipe(tmp_path)
    file.unlink()
    with pytest.raises(SpecError, match=r"its 2_Dense has no model\.safetensors: save it with sentence-transformers"):
        read_recipe(tmp_path)


def test_what_it_was_trained_with_is_hinted_at(tmp_path: Path) -> None:
    modules(tmp_path, TRANSFORMER, POOLING)
    assert read_recipe(tmp_path).hint is None
    write(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "query: ", "document": ""}})
    hint = "the model was trained with 'query: ' before its texts, which is not put there: let the data have it"
    assert read_recipe(tmp_path).hint == hint
    assert read_recipe(tmp_path).prompts == (("query", "query: "),)
    write(tmp_path / "sentence_bert_config.json", {"max_seq_length": 128, "do_lower_case": True})
    assert (
        read_recipe(tmp_path).hint
        == f"{hint}; it was trained on texts in lower case, which they are not put into: let the data be so"
    )
    write(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "", "document": ""}})
    assert str(read_recipe(tmp_path).hint).startswith("the model was trained on texts in lower case")


@pytest.mark.parametrize(
    ("said", "similarity", "name"),
    [("dot", "dot", "dot product"), ("euclidean", "euclidean", "Euclidean distance"), ("cosine", "cosine", None)]
    + [(odd, "cosine", None) for odd in (None, "mine", ["dot"])],
)
def test_how_a_model_compares_is_read_and_told(said: Any, similarity: str, name: str | None, tmp_path: Path) -> None:
    """Of vectors of length 1 all give the same order."""
    modules(tmp_path, TRANSFORMER, POOLING)
    write(tmp_path / "config_sentence_transformers.json", {"similarity_fn_name": said})
    recipe = read_recipe(tmp_path)
    assert recipe.similarity == similarity
    assert recipe.hint == (f"the model compares texts by {name}; here cosines are measured" if name else None)
    assert recipe.says == f"mean of the tokens{f', compared by {name}, here by cosine' if name else ''} (modules.json)"
    unit = read_recipe(modules(tmp_path, TRANSFORMER, POOLING, NORMALIZE))
    assert unit.similarity == similarity and unit.hint is None and "compared" not in unit.says


@pytest.mark.parametrize("pooling", MODES.values())
def test_padding_has_no_say(pooling: str) -> None:
    """Whatever lies there: texts in a batch have the vectors that each has alone."""
    lengths, generator = (5, 1, 8), torch.Generator().manual_seed(0)
    states = torch.randn(3, 8, 4, generator=generator) - 3
    mask = torch.tensor([[i < length for i in range(8)] for length in lengths]).long()
    together = pooled(states.masked_fill(mask[:, :, None] == 0, 1e4), mask, pooling)
    alone = [pooled(states[i : i + 1, :n], mask[i : i + 1, :n], pooling)[0] for i, n in enumerate(lengths)]
    torch.testing.assert_close(together, torch.stack(alone))
    by_hand = {"mean": states[0, :5].mean(0), "first": states[0, 0], "last": states[0, 4], "max": states[0, :5].amax(0)}
    torch.testing.assert_close(together[0], by_hand[pooling])
    assert pooled(states, torch.zeros_like(mask), pooling).isfinite().all()


def test_what_modules_name_is_looked_at_again_when_it_changes(tmp_path: Path) -> None:
    folder = modules(save_tiny_model(tmp_path / "tiny"), TRANSFORMER, POOLING)
    assert read_model(folder, "text_embedding").recipe == read_recipe(folder)
    write(folder / "1_Pooling" / "config.json", {"pooling_mode_max_tokens": True})
    found = read_model(folder, "text_embedding").recipe
    assert found is not None and found.pooling == "max"
    assert read_model(folder).recipe is None
