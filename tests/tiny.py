"""A tiny BERT with random weights and a small vocabulary, and synthetic rows that it can learn in seconds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

GOOD, BAD = ("good", "great", "nice"), ("bad", "awful", "poor")
CONFIG: dict[str, Any] = {"model_type": "bert", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3}
CONFIG |= {"intermediate_size": 128}  # as much of a config.json as Topwork itself reads
FILLER = tuple(f"w{i}" for i in range(50))


def save_tiny_model(
    folder: Path,
    *,
    layers: int = 3,
    hidden: int = 64,
    heads: int = 4,
    neurons: int = 128,
    positions: int = 128,
    types: int = 2,
) -> Path:
    """Write config.json, model.safetensors and tokenizer files; returns `folder`."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast  # type: ignore[attr-defined]

    folder.mkdir(parents=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *FILLER]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=neurons,
        max_position_embeddings=positions,
        type_vocab_size=types,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def rows(count: int, seed: int = 0) -> dict[str, list[str | None]]:
    """Columns text and label (neg, pos in turn): the label follows from one word of seven."""
    rng = random.Random(seed)
    table: dict[str, list[str | None]] = {"text": [], "label": []}
    for i in range(count):
        words = [*rng.choices(FILLER, k=6), rng.choice(GOOD if i % 2 else BAD)]
        rng.shuffle(words)
        table["text"].append(" ".join(words))
        table["label"].append("pos" if i % 2 else "neg")
    return table
