"""Files that others load: two in one process, a flag forgotten, words of users, and no code but ours."""

from __future__ import annotations

import ast
import io
import json
import logging
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from runpy import run_path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig, pipeline
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from core.domains.config import NEEDS_5
from core.domains.structure import Structure
from core.domains.transformer.cut import cut
from core.domains.transformer.load import load_network
from core.domains.transformer.network import TransformerNetwork
from core.pruning.export.card import as_code, as_text
from core.pruning.export.files import as_transformers_4, write_model
from core.pruning.export.verify import foreign_code
from core.pruning.job.run import ModelRef, run
from core.pruning.reading.tokenizer import load_tokenizer
from core.rows.text.processor import Text
from core.spec.job import JobSpec
from tests.tiny import rows

BATCH = {"input_ids": torch.arange(5, 15)[None], "attention_mask": torch.ones(1, 10, dtype=torch.long)}
STRUCTURE = Structure.of([[0, 2], [], [1]], [[1, 5], range(7), []])
KINDS = ("full_attention", "sliding_attention")
MARKDOWN = MarkdownIt("gfm-like", {"html": True, "linkify": False})


@pytest.fixture
def checkpoint(network: TransformerNetwork, tiny: Path, tmp_path: Path) -> Path:
    """Of a BERT."""
    cut(network, STRUCTURE)
    write_model(network, STRUCTURE, Text(load_tokenizer(tiny), 128), tmp_path / "one" / "my model.v1")
    return tmp_path / "one" / "my model.v1"


@pytest.fixture
def other(tiny: Path, tmp_path: Path) -> Path:
    """Of a DistilBERT, in a folder of the same name."""
    config = AutoConfig.for_model("distilbert", vocab_size=80, dim=16, n_heads=2, n_layers=1, hidden_dim=8)
    AutoModel.from_config(config).save_pretrained(tmp_path / "distilbert")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / file, tmp_path / "distilbert")
    network = load_network(tmp_path / "distilbert", ["neg", "pos"], seed=0)
    structure = Structure.of([[1]], [[0, 3]])
    cut(network, structure)
    write_model(
        network, structure, Text(load_tokenizer(tmp_path / "distilbert"), 128), tmp_path / "other" / "my model.v1"
    )
    return tmp_path / "other" / "my model.v1"


@pytest.fixture(autouse=True)
def _own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where transformers copies the code that it is to trust."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


@contextmanager
def log_of_transformers() -> Iterator[io.StringIO]:
    """What it warns of."""
    said, logger = io.StringIO(), logging.getLogger("transformers")
    handler = logging.StreamHandler(said)
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)
    yield said
    logger.removeHandler(handler)


def imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(folder)
    from load import load  # type: ignore[import-not-found]

    return load()[0]


def by_path(folder: Path, _monkeypatch: pytest.MonkeyPatch) -> Any:
    return run_path(str(folder / "load.py"))["load"]()[0]


def trusted(folder: Path, _monkeypatch: pytest.MonkeyPatch) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)


@pytest.mark.parametrize("load", [imported, by_path, trusted])
@pytest.mark.field(
    "2. Models in, checkpoints out", "two downloads in one Python process", "each its own model and code"
)
def test_two_checkpoints_live_in_one_process(
    load: Any, checkpoint: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its own code, which is saved with it; both folders are called alike, with a dot and a space."""
    names = {"load", *sys.modules}
    models = [load(folder, monkeypatch) for folder in (checkpoint, other)]
    assert [type(model).__name__ for model in models] == [
        "PrunedBertForSequenceClassification",
        "PrunedDistilBertForSequenceClassification",
    ]
    assert not {*sys.modules} - names & {"load", "modeling_topwork"} - names
    for model, folder in zip(models, (checkpoint, other), strict=True):
        model.eval().save_pretrained(tmp_path / "again" / folder.parent.name)
        (code,) = (tmp_path / "again" / folder.parent.name).glob("*.py")
        assert code.read_bytes() == (folder / code.name).read_bytes()
        again = trusted(code.parent, monkeypatch).eval()
        with torch.inference_mode():
            torch.testing.assert_close(again(**BATCH).logits, model(**BATCH).logits)
        assert foreign_code(code.parent) == []


def test_a_module_called_load_that_is_not_ours_is_left_alone(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "load", sys)
    by_path(checkpoint, monkeypatch)
    assert sys.modules["load"] is sys


def test_code_that_was_changed_on_disk_is_loaded_anew(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = by_path(checkpoint, monkeypatch)
    assert type(by_path(checkpoint, monkeypatch)) is type(first)
    (code,) = checkpoint.glob("modeling_topwork_*.py")
    code.write_text(code.read_text() + "\nORIGIN = 1\n")
    assert vars(sys.modules[type(by_path(checkpoint, monkeypatch)).__module__])["ORIGIN"] == 1


def test_the_code_in_a_checkpoint_imports_nothing_of_ours(checkpoint: Path) -> None:
    """Here it could be imported, and nobody would miss it before the checkpoint is somewhere else."""
    trees = [ast.parse(file.read_text()) for file in checkpoint.glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    assert len(trees) == 2
    outside = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    assert outside == {"torch", "transformers", "safetensors"}


@pytest.mark.parametrize("flag", [None, False])
@pytest.mark.parametrize("load", [AutoModelForSequenceClassification, AutoModel, AutoConfig])
@pytest.mark.field(
    "2. Models in, checkpoints out", "trust flag forgotten", "an error that names `trust_remote_code=True`"
)
def test_a_forgotten_flag_is_named(load: Any, flag: bool | None, checkpoint: Path) -> None:
    """And no advice is given that ends in random layers."""
    with pytest.raises(ValueError, match="trust_remote_code=True") as caught:
        load.from_pretrained(checkpoint, trust_remote_code=flag)
    assert "ignore_mismatched_sizes" not in str(caught.value)


def test_a_tokenizer_needs_no_trust(checkpoint: Path, tiny: Path) -> None:
    assert (
        AutoTokenizer.from_pretrained(checkpoint)("good w1")["input_ids"]
        == load_tokenizer(tiny)("good w1")["input_ids"]
    )


@pytest.mark.parametrize("by", ["folder", "model"])
@pytest.mark.field("2. Models in, checkpoints out", "`pipeline` of a download", "no list of class names, no warning")
def test_a_pipeline_knows_the_model(by: str, checkpoint: Path) -> None:
    checkpoint = checkpoint.rename(checkpoint.with_name("pruned"))
    with log_of_transformers() as log:
        if by == "folder":
            ask = pipeline("text-classification", model=str(checkpoint), trust_remote_code=True)
        else:
            model, tokenizer = run_path(str(checkpoint / "load.py"))["load"]()
            ask = pipeline("text-classification", model=model, tokenizer=tokenizer)
        assert ask("good w1")[0]["label"] in ("neg", "pos")
    assert log.getvalue() == ""


@pytest.mark.field("2. Models in, checkpoints out", "`AutoModel` of a download", "the body, every weight, no warning")
def test_the_body_alone_is_loaded_without_a_word(checkpoint: Path) -> None:
    checkpoint = checkpoint.rename(checkpoint.with_name("pruned"))
    with log_of_transformers() as log:
        body = AutoModel.from_pretrained(checkpoint, trust_remote_code=True)
    assert body.eval()(**BATCH).last_hidden_state.shape == (1, 10, 64) and log.getvalue() == ""


@pytest.mark.field(
    "2. Models in, checkpoints out", "a version of transformers that cannot", "an error at load that names the version"
)
def test_an_old_transformers_is_refused_when_the_code_is_loaded(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["transformers"], "__version__", "4.56.2")
    with pytest.raises(ImportError, match=r"needs transformers 4\.57, or 5\.3 or newer.*here is 4\.56\.2"):
        by_path(checkpoint, monkeypatch)


@pytest.mark.field(
    "2. Models in, checkpoints out",
    "tokenizer files for transformers 4.57",
    "a class and forms that both versions know",
)
def test_a_tokenizer_is_written_as_transformers_4_reads_it(
    network: TransformerNetwork, tiny: Path, tmp_path: Path
) -> None:
    """One class for all, which takes tokenizer.json as it is; lists under the name that both versions know."""
    tokenizer = load_tokenizer(tiny)
    tokenizer.add_special_tokens({"extra_special_tokens": ["w1", "w2"]})
    tokenizer.init_kwargs["auto_map"] = {"AutoTokenizer": ["evil.Tokenizer", None]}
    write_model(
        network, Structure.dense(network.architecture.anatomy), Text(tokenizer, 128), tmp_path / "out", plain=True
    )
    said = json.loads((tmp_path / "out/tokenizer_config.json").read_text())
    assert said["tokenizer_class"] == "PreTrainedTokenizerFast" and said["additional_special_tokens"] == ["w1", "w2"]
    assert not {"extra_special_tokens", "backend", "auto_map"} & {*said}
    assert said["model_input_names"] == ["input_ids", "token_type_ids", "attention_mask"]
    again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert {"w1", "w2"} <= {*again.all_special_tokens}
    assert again("good w1 w3").data == tokenizer("good w1 w3").data


@pytest.mark.field(
    "2. Models in, checkpoints out",
    "positions in config.json for transformers 4.57",
    "under the names that it reads, too",
)
def test_transformers_4_gets_the_positions_that_5_has() -> None:
    """It knows `rope_parameters` and `layer_types` by other names, and takes its defaults where those are missing."""
    llama = AutoConfig.for_model("llama", rope_theta=5e5, rope_scaling={"rope_type": "linear", "factor": 2.0})
    said = as_transformers_4(llama.to_dict())
    assert said["rope_theta"] == 5e5
    assert said["rope_scaling"].items() >= {"rope_type": "linear", "factor": 2.0}.items()
    assert LlamaConfig(**llama.to_dict() | said).rope_parameters == llama.rope_parameters
    assert as_transformers_4(AutoConfig.for_model("qwen2", rope_theta=1e6).to_dict())["rope_theta"] == 1e6
    factors = {"short_factor": [1.0] * 64, "long_factor": [2.0] * 64, "original_max_position_embeddings": 512}
    long = AutoConfig.for_model("llama", rope_scaling={"rope_type": "longrope", "factor": 9.0, **factors})
    said = as_transformers_4(long.to_dict())
    assert said["original_max_position_embeddings"] == 512
    again = LlamaConfig(**long.to_dict() | said)
    assert again.rope_parameters == long.rope_parameters | {
        "attention_factor": said["rope_scaling"]["attention_factor"]
    }
    factor = {name: ROPE_INIT_FUNCTIONS["longrope"](one)[1] for name, one in {"5": long, "4": again}.items()}
    assert factor["4"] == factor["5"]
    modern = AutoConfig.for_model("modernbert", num_hidden_layers=7, global_rope_theta=8e4).to_dict()
    assert as_transformers_4(modern) == {
        "global_rope_theta": 8e4,
        "local_rope_theta": 1e4,
        "global_attn_every_n_layers": 3,
    }
    uneven = modern | {"layer_types": modern["layer_types"][1:]}
    scaled = modern | {"rope_parameters": {kind: {"rope_type": "yarn", "rope_theta": 1e4} for kind in KINDS}}
    for unknown in (uneven, scaled):
        assert as_transformers_4(unknown)["global_attn_every_n_layers"] == NEEDS_5
    assert as_transformers_4(AutoConfig.for_model("bert").to_dict()) == {}


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.field(
    "2. Models in, checkpoints out",
    "attention both ways, for transformers 4.57",
    "an error at load that names the version: it would look back alone",
)
def test_attention_both_ways_is_refused_by_transformers_4(plain: bool, tiny: Path, tmp_path: Path) -> None:
    """Whose `from_dict` reads the keys of `pruned_heads` as numbers."""
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 2}
    config = AutoConfig.for_model("qwen2", vocab_size=80, intermediate_size=8, is_causal=False, **sizes)
    assert "pruned_heads" not in as_transformers_4(config.to_dict() | {"is_causal": True})
    AutoModel.from_config(config).save_pretrained(tmp_path / "given")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny / file, tmp_path / "given")
    network = load_network(tmp_path / "given", ["neg", "pos"], seed=0).eval()
    structure = Structure.of([[0], [1]], [[0, 3], [1, 2]])
    cut(network, structure)
    write_model(network, structure, Text(load_tokenizer(tmp_path / "given"), 128), tmp_path / "out", plain=plain)
    with pytest.raises(ValueError, match=r"is_causal, which needs transformers 5\.3 or newer"):
        print([int(key) for key in json.loads((tmp_path / "out/config.json").read_text())["pruned_heads"]])
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", trust_remote_code=not plain)
    again = load_network(tmp_path / "out", ["neg", "pos"], seed=1).eval()
    with torch.inference_mode():
        wanted = network.logits(BATCH)
        torch.testing.assert_close(loaded.eval()(**BATCH).logits, wanted)
        torch.testing.assert_close(again.logits(BATCH), wanted)
        loaded.config.is_causal = True
        assert not torch.allclose(loaded(**BATCH).logits, wanted)


@pytest.mark.parametrize(
    ("file", "key", "value", "found"),
    [
        ("tokenizer_config.json", "auto_map", {"AutoTokenizer": ["evil.Tokenizer", None]}, True),
        ("tokenizer_config.json", "auto_map", ["evil.Tokenizer", None], True),
        ("config.json", "auto_map", {"AutoModel": "evil/repository--modeling.Model"}, True),
        ("config.json", "custom_pipelines", {"x": {"impl": "evil.Pipeline"}}, True),
        ("config.json", "inner", {"auto_map": {"AutoModel": "evil.Model"}}, True),
        ("config.json", "attn_implementation", "evil/kernel", True),
        ("config.json", "use_kernels", True, True),
        ("config.json", "attn_implementation", "sdpa", False),
        ("config.json", "label2id", {"auto_map": 0, "use_kernels": 1}, False),
        ("report.json", "auto_map", {"precision": 0.5}, False),
    ],
)
@pytest.mark.field("3. Under attack", "foreign code named in a download", "the job fails its verification")
def test_only_our_code_is_named(file: str, key: str, value: Any, found: bool, checkpoint: Path) -> None:
    assert foreign_code(checkpoint) == []
    path = checkpoint / file
    said = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(said | {key: value}))
    assert bool(foreign_code(checkpoint)) == found


def test_only_our_code_is_there(checkpoint: Path) -> None:
    (checkpoint / "inner").mkdir()
    (checkpoint / "inner/evil.py").write_text("")
    assert foreign_code(checkpoint) == ["evil.py"]


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "`](http://evil.example)<b>``",
    "x\n---\n\n# heading\n\n- item",
    "[a](http://evil.example) ![b](c) https://evil.example",
    "| a | $x$ &lt; ~~b~~ *c* __d__ \\",
    "\u202eevil\r\u2028",
]


def inline(text: str) -> tuple[set[str], str]:
    """The kinds of what a Markdown text holds, and its words."""
    blocks = MARKDOWN.parse(text)
    kinds = {block.type for block in blocks} - {"paragraph_open", "paragraph_close", "inline"}
    parts = [part for block in blocks for part in block.children or []]
    return kinds | {part.type for part in parts}, "".join(part.content for part in parts)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.field("3. Under attack", "labels, columns and names in the model card", "words, never markup")
def test_words_of_users_are_no_markup(text: str) -> None:
    seen = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    assert inline(f"Label {as_code(text)}.") == ({"text", "code_inline"}, f"Label {seen}.")
    assert inline(f"Mind: {as_text(text)}.") == ({"text"}, f"Mind: {seen}.")


@given(text=st.text(st.characters(codec="utf-8") | st.sampled_from("`<>[]()*_|\\&~$ \n"), min_size=1))
def test_no_text_is_markup(text: str) -> None:
    assert inline(f"Label {as_code(text)}.")[0] == {"text", "code_inline"}
    assert inline(f"Mind: {as_text(text)}.")[0] == {"text"}


def test_a_card_of_hostile_names(tiny: Path, tmp_path: Path) -> None:
    table = rows(120)
    names = {"neg": HOSTILE[0], "pos": HOSTILE[2]}
    columns = [HOSTILE[1], HOSTILE[3]]
    data = dict.fromkeys(columns, table["text"]) | {"label": [names[str(label)] for label in table["label"]]}
    pq.write_table(pa.table(data), tmp_path / "rows.parquet")
    spec = JobSpec.model_validate(
        {
            "model": "tiny",
            "task": {"data": {"dataset": "ds_" + "1" * 32}, "split": {"train": 40, "dev": 40}, "text": columns},
            "budget": {"params": 0.5},
            "train": {"steps": {"teach": 1, "recover": 1}},
        }
    )
    name = 'evil: "x"\n---\n<script>'
    model = ModelRef(tiny, name, "main")
    run(spec, model, {"ds_" + "1" * 32: tmp_path / "rows.parquet"}, tmp_path / "work", lambda _said: None)
    front, body = (tmp_path / "work/output/README.md").read_text().split("\n---\n", 1)
    assert yaml.safe_load(front.removeprefix("---\n")) == {
        "base_model": name,
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["topwork", "structured-pruning"],
    }
    blocks = MARKDOWN.parse(body)
    kinds = {part.type for block in blocks for part in block.children or []} | {block.type for block in blocks}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "em_open", "strong_open", "hr"}
    assert [block.tag for block in blocks if block.type == "heading_open"] == ["h1", "h2"]
    said = [part.content for block in blocks for part in block.children or [] if part.type == "code_inline"]
    assert {HOSTILE[0], HOSTILE[1], HOSTILE[3]} <= {*said}
