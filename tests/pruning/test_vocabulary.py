"""A trimmed tokenizer: the texts it was trimmed for as before, any other still encodes, the model says the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from core.domains.transformer.load import load_network
from core.pruning.reading.tokenizer import load_tokenizer
from core.rows.text.vocabulary import trim
from core.spec.errors import SpecError
from tests.tiny import SOURCE, TARGET, done, rows, save_table, spec_of

CORPUS = [
    "the quick brown fox jumps over the lazy dog",
    "pack my box with five dozen liquor jugs",
    "how vexingly quick daft zebras jump",
    "sphinx of black quartz, judge my vow",
    "the five boxing wizards jump quickly",
] * 20
USED = ["the quick dog jumps", "my box, quickly"]
UNSEEN = "zebras vexingly judge wizards xyz qqq"
SPECIAL = {"pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>", "sep_token": "</s>"}


def wordpiece() -> Tokenizer:
    """As BERT has it."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return trained(tokenizer, trainers.WordPieceTrainer)


def bpe() -> Tokenizer:
    """As RoBERTa has it, on bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return trained(tokenizer, trainers.BpeTrainer, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def unigram() -> Tokenizer:
    """As XLM-R has it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return trained(tokenizer, trainers.UnigramTrainer, unk_token="<unk>")


def late() -> Tokenizer:
    """As ModernBERT has it: bytes, and the special tokens behind all others."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return trained(tokenizer, trainers.BpeTrainer, special=[], initial_alphabet=alphabet)


NAMES = ["<s>", "<pad>", "</s>", "<unk>"]


def trained(tokenizer: Tokenizer, trainer: Any, special: list[str] = NAMES, **options: Any) -> Tokenizer:
    """With special tokens around each text, of another order than their ids."""
    made = trainer(vocab_size=300, special_tokens=special, show_progress=False, **options)
    tokenizer.train_from_iterator(CORPUS, made)
    tokenizer.add_special_tokens(NAMES)
    ids = {name: tokenizer.token_to_id(name) for name in ("<s>", "</s>")}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=list(ids.items())
    )
    return tokenizer


@pytest.fixture(params=[wordpiece, bpe, late, unigram], ids=lambda make: make.__name__)
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Saved and loaded, as a user's."""
    make: Callable[[], Tokenizer] = request.param
    PreTrainedTokenizerFast(tokenizer_object=make(), **SPECIAL).save_pretrained(tmp_path)
    return AutoTokenizer.from_pretrained(tmp_path)


def ids_of(tokenizer: Any, texts: list[str]) -> set[int]:
    """Tokens that the texts use."""
    return {token for ids in tokenizer(texts)["input_ids"] for token in ids}


def test_known_texts_are_as_before_and_any_other_still_encodes(tokenizer: Any, tmp_path: Path) -> None:
    smaller, kept = trim(tokenizer, ids_of(tokenizer, USED))
    assert len(smaller) == len(kept) < len(tokenizer)
    for text in USED:
        assert [kept[i] for i in smaller(text)["input_ids"]] == tokenizer(text)["input_ids"]
    pair = smaller(*USED)["input_ids"]
    assert [kept[i] for i in pair] == tokenizer(*USED)["input_ids"]
    ids = smaller(UNSEEN)["input_ids"]
    assert smaller.unk_token_id not in ids and len(ids) > len(tokenizer(UNSEEN)["input_ids"])
    assert smaller.decode(ids, skip_special_tokens=True).replace(" ", "") == UNSEEN.replace(" ", "")
    assert smaller("\u2603")["input_ids"]  # of no known character
    smaller.save_pretrained(tmp_path / "again")
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert again.get_vocab() == smaller.get_vocab() and again(UNSEEN)["input_ids"] == ids


def test_an_unknown_token_that_is_no_special_token_stays(tmp_path: Path) -> None:
    words = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "a", "b", "##a", "##b", "ab", "word"])}
    plain = Tokenizer(models.WordPiece(words, unk_token="[UNK]", max_input_chars_per_word=50))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="[PAD]")
    smaller, kept = trim(tokenizer, ids_of(tokenizer, ["ab"]))
    assert [kept[i] for i in smaller("ab q")["input_ids"]] == [words["ab"], words["[UNK]"]]


def test_words_are_encoded_as_in_running_text_before_and_after(tokenizer: Any, tmp_path: Path) -> None:
    """Byte-level BPE knows a word by the space before it: 'dog' and ' dog' are other tokens."""
    tokenizer.save_pretrained(tmp_path / "given")
    words = load_tokenizer(tmp_path / "given", of_words=True)

    def inside(one: Any, said: Any) -> list[str]:
        names: list[str] = one.convert_ids_to_tokens(said["input_ids"][0])
        return names[1:-1]

    wanted = inside(words, words([" quick dog jumps"]))
    split = words([["quick", "dog", "jumps"]], is_split_into_words=True)
    assert inside(words, split) == wanted and [*dict.fromkeys(split.word_ids(0)[1:-1])] == [0, 1, 2]
    smaller, _ = trim(words, split["input_ids"][0])
    smaller.save_pretrained(tmp_path / "trimmed")
    again = AutoTokenizer.from_pretrained(tmp_path / "trimmed")
    assert inside(again, again([["quick", "dog", "jumps"]], is_split_into_words=True)) == wanted


def test_a_model_says_the_same_of_known_texts(tiny: Path) -> None:
    texts = [str(text) for text in rows(20)["text"][:3]]
    network, tokenizer = load_network(tiny, ["a", "b"], seed=0).eval(), load_tokenizer(tiny)
    with torch.inference_mode():
        before = network.logits(dict(tokenizer(texts, return_tensors="pt", padding=True)))
        smaller, kept = trim(tokenizer, ids_of(tokenizer, texts))
        network.keep_tokens(kept)
        after = network.logits(dict(smaller(texts, return_tensors="pt", padding=True)))
    torch.testing.assert_close(after, before)
    config = network.body.config
    assert config.vocab_size == len(kept) == len(network.body.get_input_embeddings().weight)
    assert config.pad_token_id == smaller.pad_token_id


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    words = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    with pytest.raises(SpecError, match="of type WordLevel cannot be trimmed") as caught:
        trim(PreTrainedTokenizerFast(tokenizer_object=words), [0])
    assert caught.value.field == "/vocabulary"
    with pytest.raises(SpecError, match="written in Python") as caught:
        trim(object(), [0])
    assert caught.value.field == "/vocabulary"


def test_a_job_with_a_budget_under_what_the_whole_vocabulary_takes(tiny: Path, tmp_path: Path) -> None:
    texts = rows(120)
    texts["text"] = [str(text).replace("w1", "w2") for text in texts["text"]]  # some words are never used
    table = save_table(tmp_path / "rows.parquet", texts)
    spec = spec_of(budget={"params": 0.4, "of": "model"}, vocabulary="trim")
    report = done(spec, tiny, {TARGET: table}, tmp_path / "w")
    budget, vocabulary = report.budget, report.vocabulary
    assert vocabulary.kept < vocabulary.before == 61 and vocabulary.missing < 0.02
    assert "tokens of the test texts" not in " ".join(report.warnings)
    assert budget.limit == int(0.4 * budget.dense)
    cut = 64 * (vocabulary.before - vocabulary.kept)
    assert budget.dense == report.results.dense.model_params + cut
    assert 0.99 * budget.limit <= budget.met <= budget.limit
    assert report.verified.max_difference_between_loaders < 1e-5
    loaded = AutoTokenizer.from_pretrained(tmp_path / "w" / "output")
    assert len(loaded) == vocabulary.kept


def test_words_that_only_the_test_rows_have_are_told(tiny: Path, tmp_path: Path) -> None:
    known, strange = dict(rows(60, seed=0)), dict(rows(40, seed=1))
    known["text"] = [str(text).replace("w1", "w2") for text in known["text"]]
    tables = {
        TARGET: save_table(tmp_path / "known.parquet", known),
        SOURCE: save_table(tmp_path / "strange.parquet", strange),
    }
    data = {"train": {"dataset": TARGET}, "test": {"dataset": SOURCE}}
    spec = spec_of(task={"data": data, "split": {"dev": 20}}, budget={"params": 0.9, "of": "model"}, vocabulary="trim")
    report = done(spec, tiny, tables, tmp_path / "w")
    share = report.vocabulary.missing
    assert 0.02 < share < 0.5
    assert f"{share:.1%} of the tokens of the test texts are in no other text" in " ".join(report.warnings)
    assert f"as {share:.1%} of those of the test texts did" in (tmp_path / "w/output/README.md").read_text()
