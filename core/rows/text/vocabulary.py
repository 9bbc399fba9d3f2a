"""`vocabulary: trim`: keep the tokens that the texts use, and what the tokenizer needs to encode anything else.

A text of known words is encoded as before; a word that no text held falls into smaller pieces, down to single
characters. WordPiece and Unigram keep every single character; BPE keeps its alphabet, and of each kept token the merges
that lead to it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from core.spec.errors import SpecError

OTHER_FILES = ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


def trim(tokenizer: Any, tokens: Iterable[int]) -> tuple[Any, list[int]]:
    """A tokenizer that keeps `tokens`, and the ids that its tokens had; their place in that list is their new id.

    Raises SpecError('/vocabulary') for a tokenizer that it cannot take apart.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise SpecError(
            "/vocabulary", "this model's tokenizer is written in Python and cannot be trimmed: leave it out"
        )
    told = json.loads(tokenizer.backend_tokenizer.to_str())
    model = told["model"]
    if model["type"] not in REDUCE:
        known = ", ".join(REDUCE)
        raise SpecError("/vocabulary", f"a tokenizer of type {model['type']} cannot be trimmed, only {known}")
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    used = {*tokens, *(token["id"] for token in told["added_tokens"]), *tokenizer.all_special_ids}
    kept = sorted(used | REDUCE[model["type"]](model, used))
    new = {old: i for i, old in enumerate(kept)}

    for token in told["added_tokens"]:
        token["id"] = new[token["id"]]
    if told.get("padding"):
        told["padding"]["pad_id"] = new[told["padding"]["pad_id"]]
    _renumber(told.get("post_processor") or {}, new)
    if model["type"] == "Unigram":
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in new]
        model["unk_id"] = new.get(model["unk_id"])
    else:
        model["vocab"] = {token: new[i] for token, i in model["vocab"].items() if i in new}
        model["merges"] = [pair for pair in model.get("merges", []) if _whole(pair, model["vocab"])]
        if model["type"] != "BPE":
            del model["merges"]
    smaller = _rebuilt(tokenizer, told)
    names = {i: token for token, i in vocabulary.items()}
    if smaller.get_vocab() != {names[old]: i for old, i in new.items()}:
        raise SpecError("/vocabulary", "the tokenizer's ids are not in one piece: leave 'vocabulary' out")
    return smaller, kept


def _wordpiece(model: Mapping[str, Any], _used: set[int]) -> set[int]:
    prefix = model["continuing_subword_prefix"]
    unknown = {model["vocab"].get(model["unk_token"])} - {None}
    return {i for token, i in model["vocab"].items() if len(token.removeprefix(prefix)) == 1} | unknown


def _unigram(model: Mapping[str, Any], _used: set[int]) -> set[int]:
    def small(piece: str) -> bool:
        return len(piece.removeprefix("\u2581")) <= 1 or (piece.startswith("<0x") and piece.endswith(">"))

    unknown = {model["unk_id"]} - {None}
    return {i for i, (piece, _) in enumerate(model["vocab"]) if small(piece)} | unknown


def _bpe(model: Mapping[str, Any], used: set[int]) -> set[int]:
    """The alphabet, and whatever the used tokens are merged from."""
    made: dict[str, list[tuple[str, str]]] = {}
    for pair in model["merges"]:
        left, right = _sides(pair)
        made.setdefault(left + right, []).append((left, right))
    names = {i: token for token, i in model["vocab"].items()}
    open_, found = [names[i] for i in used if i in names], {t for t in model["vocab"] if t not in made}
    while open_:
        token = open_.pop()
        found.add(token)
        open_ += [side for pair in made.get(token, []) for side in pair if side not in found]
    return {model["vocab"][token] for token in found if token in model["vocab"]}


REDUCE: Mapping[str, Callable[[Mapping[str, Any], set[int]], set[int]]] = {
    "WordPiece": _wordpiece,
    "Unigram": _unigram,
    "BPE": _bpe,
}


def _sides(pair: Any) -> tuple[str, str]:
    left, right = pair.split(" ") if isinstance(pair, str) else pair
    return left, right


def _whole(pair: Any, vocabulary: Mapping[str, int]) -> bool:
    left, right = _sides(pair)
    return left in vocabulary and right in vocabulary and left + right in vocabulary


def _renumber(processor: dict[str, Any], new: Mapping[int, int]) -> None:
    """Ids of special tokens in a post-processor, whatever its kind."""
    for token in (processor.get("special_tokens") or {}).values():
        token["ids"] = [new[i] for i in token["ids"]]
    for name in ("sep", "cls"):
        if name in processor:
            processor[name][1] = new[processor[name][1]]
    for part in processor.get("processors") or []:
        _renumber(part, new)


def _rebuilt(tokenizer: Any, told: Mapping[str, Any]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for name in OTHER_FILES:
            (Path(folder) / name).unlink(missing_ok=True)
        settings = Path(folder) / "tokenizer_config.json"
        values = json.loads(settings.read_text(encoding="utf-8"))
        for name in ("added_tokens_decoder", "vocab_file", "merges_file"):
            values.pop(name, None)
        settings.write_text(json.dumps(values), encoding="utf-8")
        (Path(folder) / "tokenizer.json").write_text(json.dumps(told), encoding="utf-8")
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
