"""Show whether a change of the code left every result bit for bit the same: tiny jobs that ask for all there is.

    python -m benchmarks.golden --root ROOT --write FILE
    python -m benchmarks.golden --root ROOT --against FILE [--only NAME,...]

The code in the folder ROOT runs each job as a worker does (`python -m worker.child WORKDIR`); nothing else of that code
is known here, so that it may be moved and renamed. FILE is of one machine: bits differ between kinds of CPU and
versions of libraries. `make golden BASE=REV` compares what is here with a revision.

No job has a budget in time (`latency_ms`, `speedup`): how it is met follows from what is measured on the way.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET, SOURCE, OTHER = ("ds_" + digit * 32 for digit in "123")
FILES = ("model.safetensors", "structure.json", "model.onnx", "tokenizer.json", "test.jsonl")  # kept by their sha256
LEFT_OUT = (  # keys, at any depth, of report.json and config.json
    "timings_s",  # differ from run to run: time,
    "latency_ms",
    "speedup",
    "peak_memory_bytes",  # memory
    "environment",  # the machine, and versions of libraries
    "waited",  # and whether it was busy,
    "auto_map",  # names the checkpoint's code by its sha256: code may be rewritten
)
BUSY = "the machine was busy"  # which is said of it, too
SHOWN = 5  # differences of a job that are printed


@dataclass(frozen=True)
class Job:
    """What is asked for, and how it ends."""

    spec: Mapping[str, Any]
    ends: str = "done"
    processes: int = 1
    asks: str = ""  # a word in core/spec of code that knows what is asked for; other code is not asked
    resumed: str = ""  # as which other job it must end, though it is killed once its first stage is saved


def job(model: str = "bert", steps: Sequence[int] = (60, 40), **changes: Any) -> dict[str, Any]:
    """The specification of a job; `steps` of teach and recover, or of all three stages."""
    names = ("teach", "recover") if len(steps) == 2 else ("teach", "prune", "recover")
    train = {"steps": dict(zip(names, steps, strict=True)), "batch_size": 16, "max_length": 32, "learning_rate": 5e-3}
    return {"model": model, "task": task(), "budget": {"params": 0.3}, "train": train} | changes


def task(data: Any = None, **changes: Any) -> dict[str, Any]:
    """The target task."""
    return {"data": data or {"dataset": TARGET}, "split": {"train": 60, "dev": 40}} | changes


def source(dataset: str = SOURCE, label: Any = "label", **changes: Any) -> dict[str, Any]:
    """A source; of text alone where `label` is None."""
    return {"data": {"dataset": dataset}, "label": label} | changes


TEACHER = job(
    sources=[source(weight=0.5), source(OTHER, None)],
    transfer={"coupling": "teacher", "weighting": "learned"},
    budget={"macs": 0.5},
)
SEVERAL = ["good", "bad", "long"]
JOBS: Mapping[str, Job] = {
    "fisher-onnx": Job(job(export={"formats": ["safetensors", "onnx"]})),
    "teacher-learned": Job(TEACHER),
    "resumed": Job(TEACHER, resumed="teacher-learned"),
    "auto-control": Job(
        job(steps=(200, 200), sources=[source()], control=True, vocabulary="trim", task=task(metric="f1"))
    ),
    "l0-tied-labels": Job(
        job(
            "roberta",
            (60, 40, 40),
            task=task(label=SEVERAL, metric="macro_f1"),
            sources=[source(label=SEVERAL)],
            transfer={"coupling": "tied"},
            method={"name": "l0"},
            budget={"bytes": 0.7},
        )
    ),
    "l0-joint-number": Job(
        job(
            "distilbert",
            (60, 40, 40),
            task=task(label="score", problem_type="regression"),
            sources=[source(label="score")],
            transfer={"coupling": "joint", "weighting": "learned"},
            method={"name": "l0"},
        )
    ),
    "pdp-sequential-pairs": Job(
        job(
            steps=(60, 40, 40),
            task=task(text=["text", "other"], metric="balanced_accuracy"),
            sources=[source(text=["text", "other"])],
            transfer={"coupling": "sequential"},
            method={"name": "pdp"},
            budget={"params": 0.6, "of": "model"},
        )
    ),
    "magnitude-regular": Job(
        job(
            "distilbert",
            task=task({"train": {"dataset": TARGET}, "test": {"dataset": OTHER}}, split={"dev": 0.2}),
            sources=[source(label=None)],
            transfer={"coupling": "teacher"},
            method={"name": "magnitude"},
            export={"layout": "regular"},
            budget={"params": 0.6},
        )
    ),
    "random-joint": Job(
        job(
            "mpnet",
            sources=[source(label_map={"pos": "neg", "neg": "pos"})],
            transfer={"coupling": "joint", "share": ["weights"]},
            method={"name": "random"},
        )
    ),
    "words-masks": Job(
        job(
            "modernbert",
            task=task(type="token-classification", text=["words"], label="tags"),
            sources=[source(text=["words"], label="tags")],
            transfer={"coupling": "sequential", "share": ["masks"]},
        )
    ),
    "words-1:4": Job(
        job(
            "llama",
            (60, 40, 40),
            task=task(type="token-classification", text=["words"], label="tags", metric="token_accuracy"),
            method={"name": "pdp"},
            budget={"sparsity": 0.75, "pattern": "1:4"},
        )
    ),
    "zeros": Job(job(steps=(60, 40, 40), budget={"sparsity": 0.6})),
    "zeros-2:4": Job(job("deberta-v2", sources=[source()], budget={"sparsity": 0.5, "pattern": "2:4"})),
    "zeros-channels": Job(job(method={"name": "magnitude"}, budget={"sparsity": 0.5, "pattern": "channel"})),
    "vocabulary": Job(job("roberta", vocabulary="trim", budget={"bytes": 0.4})),
    "hidden-size": Job(job("deberta-v2", hidden_size="trim", budget={"params": 0.4, "of": "model"})),
    "family": Job(job(budget=None, budgets=[{"params": 0.5}, {"params": 0.2}, {"macs": 0.4}]), asks="budgets"),
    "own-head": Job(job("own", export={"layout": "regular"}, budget={"params": 0.5})),
    "own-head-untrained": Job(
        job(
            "own",
            steps=(0, 0),
            sources=[source(label=None)],
            transfer={"coupling": "teacher", "stages": ["prune"]},
        )
    ),
    "llama-regular": Job(job("llama", export={"layout": "regular"}, budget={"macs": 0.6, "sequence_length": 16})),
    "vectors": Job(
        job(
            steps=(0, 40),
            task=task(type="sentence-similarity", dimensions=[8]),
            sources=[source(label=None)],
            vocabulary="trim",
            hidden_size="trim",
            budget={"bytes": 0.4},
        ),
        asks="text_embedding",
    ),
    "vectors-pairs": Job(
        job(
            "mpnet",
            task=task(type="sentence-similarity", text=["text", "other"]),
            sources=[source(label=None)],
            export={"layout": "regular", "formats": ["onnx"]},
            budget={"params": 0.6},
        ),
        asks="text_retrieval",
    ),
    "vectors-scores": Job(
        job(
            "distilbert",
            (0, 40, 40),
            task=task(type="sentence-similarity", text=["text", "other"], label="score"),
            method={"name": "l0"},
        ),
        asks="text_similarity",
    ),
    "ranking": Job(job(task=task(type="text-ranking", text=["text", "other"])), asks="text_ranking"),
    "out-of-reach": Job(job(budget={"params": 0.01, "of": "model"}), ends="failed"),
    "two-processes": Job(job(sources=[source()], transfer={"coupling": "joint"}), processes=2),
}


GOOD, BAD = ("great", "nice", "fine"), ("poor", "awful", "sad")
FILLER = [f"{first}{second}" for first in ("ab", "cord", "el") for second in ("an", "is", "or", "um", "ete", "ing")]
WORDS = [*GOOD, *BAD, *FILLER]
KNOWN = [*WORDS[:-6], *(word[::-1] for word in WORDS)]  # to the tokenizers: not all that texts use, and more
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
SIZES: Mapping[str, Mapping[str, Any]] = {  # of config.json, by the folder, which is named as the family
    "bert": {},
    "roberta": {},
    "mpnet": {},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8, "classifier_pooling": "mean"},
    "distilbert": {"dim": 32, "n_heads": 4, "n_layers": 3, "hidden_dim": 64},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "type_vocab_size": 0,
    },
    "llama": {"num_attention_heads": 8, "num_key_value_heads": 4},
}


def write_models(folder: Path) -> None:
    """Random models with a word-piece or a byte-level tokenizer, and one that has a head for the labels."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    library: Any = transformers  # untyped
    library.logging.disable_progress_bar()

    def numbered(tokens: Sequence[str]) -> dict[str, int]:
        return {token: i for i, token in enumerate(dict.fromkeys(tokens))}

    def tokenizer(family: str) -> Any:
        """Not trained: of equal pairs a trainer takes any."""
        if family in ("roberta", "llama"):
            merges = [(f"Ġ{word}"[:i], f"Ġ{word}"[i]) for word in KNOWN for i in range(1, len(word) + 1)]
            tokens = [*pre_tokenizers.ByteLevel.alphabet(), *("".join(pair) for pair in merges)]
            new = Tokenizer(models.BPE(numbered([*SPECIAL, *sorted(tokens)]), [*dict.fromkeys(merges)]))
            new.pre_tokenizer, new.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
        else:
            letters = sorted("".join(WORDS))
            tokens = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *KNOWN]
            new = Tokenizer(models.WordPiece(numbered(tokens), unk_token="<unk>"))
            new.normalizer, new.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
            new.decoder = decoders.WordPiece()
        new.add_special_tokens(SPECIAL)
        new.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>",
            pair="<s> $A </s> $B:1 </s>:1",
            special_tokens=[(name, SPECIAL.index(name)) for name in ("<s>", "</s>")],
        )
        names = dict(zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL, strict=True))
        return library.PreTrainedTokenizerFast(
            tokenizer_object=new,
            model_input_names=["input_ids", "attention_mask", *(["token_type_ids"] if family == "bert" else [])],
            **{f"{name}_token": token for name, token in names.items()},
        )

    for name, special in SIZES.items():
        words = tokenizer(name)
        values: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3}
        values |= {"intermediate_size": 64, "vocab_size": len(words), "max_position_embeddings": 64, "pad_token_id": 0}
        values |= {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
        config = library.AutoConfig.for_model(name, **{**values, **special})
        torch.manual_seed(0)
        library.AutoModel.from_config(config).save_pretrained(folder / name)
        words.save_pretrained(folder / name)
        if name == "bert":
            config.id2label, config.label2id = {0: "pos", 1: "neg"}, {"pos": 0, "neg": 1}
            library.AutoModelForSequenceClassification.from_config(config).save_pretrained(folder / "own")
            words.save_pretrained(folder / "own")


def write_tables(folder: Path) -> None:
    """Texts, and words, whose labels of every kind follow from a few of the words."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for dataset, count in ((TARGET, 200), (SOURCE, 240), (OTHER, 100)):
        draw, rows = random.Random(dataset), []
        for i in range(count):
            words = draw.choices(FILLER, k=draw.randrange(3, 9))
            words.insert(draw.randrange(len(words)), draw.choice(GOOD if i % 2 else BAD))
            row: dict[str, Any] = {"text": " ".join(words), "other": " ".join(draw.choices([*FILLER, *GOOD], k=4))}
            row |= {"label": "pos" if i % 2 else "neg", "good": i % 2, "bad": 1 - i % 2, "long": int(len(words) > 6)}
            row |= {"score": i % 2 + len(words) / 10, "words": words}
            rows.append(row | {"tags": ["B-mood" if word in GOOD + BAD else "O" for word in words]})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{dataset}.parquet")


@dataclass(frozen=True)
class Bench:
    """The code that is tried, and what it is given."""

    root: Path
    inputs: Path  # models, tables

    def run_all(self, names: Sequence[str], workers: int) -> Iterator[tuple[str, dict[str, Any], float]]:
        """Of each job its name, what is kept, and its seconds; those of several processes at the end, one by one."""
        for shared in (False, True):
            some = [name for name in names if (JOBS[name].processes > 1) == shared]
            with ThreadPoolExecutor(1 if shared else workers) as pool:
                yield from pool.map(self.run, some)

    def run(self, name: str) -> tuple[str, dict[str, Any], float]:
        """As `run_all`, of one."""
        one, began = JOBS[name], time.monotonic()
        with tempfile.TemporaryDirectory(prefix="golden-") as folder:
            workdir = Path(folder, "1")
            ending = self.start(one, workdir, kill=bool(one.resumed))
            if ending["event"] == "saved":
                workdir = Path(folder, "2")
                shutil.copytree(Path(folder, "1", ending["folder"]), workdir / "state")
                ending = self.start(one, workdir)
            elif one.resumed and ending["event"] == "done":
                ending = {"event": "crashed", "error": "no stage was said to be saved"}
            return name, self.kept(one, ending, workdir / "output"), time.monotonic() - began

    def start(self, one: Job, workdir: Path, kill: bool = False) -> dict[str, Any]:
        """Run the child; returns its last message. With `kill` that is the one of its first stage that is saved."""
        for part in ("inputs", "state", "tmp"):
            (workdir / part).mkdir(parents=True, exist_ok=True)
        datasets = {}
        for dataset in self.datasets(one):
            datasets[dataset] = f"inputs/{dataset}.parquet"
            shutil.copy(self.inputs / f"{dataset}.parquet", workdir / datasets[dataset])
        request = {
            "spec": one.spec,
            "model": {"path": str(self.inputs / one.spec["model"]), "name": one.spec["model"], "revision": None},
            "datasets": datasets,
            "names": {},
            "cache": str(workdir / "cache"),
            "processes": one.processes,
            "log": {},
        }
        (workdir / "request.json").write_text(json.dumps(request))
        message: dict[str, Any] = {"event": "crashed"}
        with (
            (workdir / "log.txt").open("w+") as log,
            subprocess.Popen(
                [sys.executable, "-P", "-m", "worker.child", str(workdir)],
                cwd=workdir,
                env=environment(self.root) | {"TMPDIR": str(workdir / "tmp")},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            ) as child,
        ):
            assert child.stdout is not None
            for line in child.stdout:
                message = json.loads(line)
                if kill and message["event"] == "saved" and message["stage"] != "part":
                    os.killpg(child.pid, signal.SIGKILL)
                    return message
            if child.wait() or message["event"] not in ("done", "failed"):
                log.seek(0)
                return {"event": "crashed", "error": log.read()[-2000:]}
        return message

    def datasets(self, one: Job) -> list[str]:
        """Those that the job names."""
        return [name for name in (TARGET, SOURCE, OTHER) if name in json.dumps(one.spec)]

    def kept(self, one: Job, ending: Mapping[str, Any], output: Path) -> dict[str, Any]:
        """By its name, every value that must stay."""
        model = (self.inputs / one.spec["model"]).iterdir()
        given = [*sorted(model), *(self.inputs / f"{dataset}.parquet" for dataset in self.datasets(one))]
        facts = [one.spec, one.processes, *map(sha256, given)]
        found = {
            "given": hashlib.sha256(json.dumps(facts).encode()).hexdigest(),  # where it differs, the harness does
            "ended": ending["event"],
            **dict(leaves(ending.get("error"), "error")),
        }
        if ending["event"] == "done":
            every = [file for file in output.rglob("*") if file.name in FILES]  # of several sizes each in its folder
            found |= {file.relative_to(output).as_posix(): sha256(file) for file in every}
            for file in sorted({*output.rglob("report.json"), *output.rglob("config.json")}):
                found |= leaves(json.loads(file.read_text()), str(file.relative_to(output).with_suffix("")))
        return found


def environment(root: Path) -> dict[str, str]:
    """Of a child: the code in `root`, one thread, no GPU, no network."""
    return os.environ | {
        "PYTHONPATH": str(root),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TOPWORK_LOG": "warning",
        "SUPERVISOR_PID": str(os.getpid()),
    }


def require_code_of(root: Path) -> None:
    """SystemExit unless it is the code in `root` that a child imports, and not what is installed."""
    command = [sys.executable, "-P", "-c", "import core, worker.child; print(core.__file__, worker.child.__file__)"]
    done = subprocess.run(command, env=environment(root), cwd=root, capture_output=True, text=True)
    files = [Path(file).resolve() for file in done.stdout.split()]
    if done.returncode or not all(file.is_relative_to(root) for file in files):
        raise SystemExit(f"--root: the code of {root} is not what is imported: {done.stdout or done.stderr}")


def sha256(file: Path) -> str:
    """Of what it holds."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value in JSON by its path, but for what is LEFT_OUT."""
    match value:
        case dict():
            for name, inner in value.items():
                if name not in LEFT_OUT:
                    yield from leaves(inner, f"{path}.{name}")
        case list():
            for i, inner in enumerate(value):
                yield from leaves(inner, f"{path}[{i}]")
        case str() if value.startswith(BUSY):
            pass
        case _:
            yield path, value


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Values that are not the same to the bit, or that one alone has."""

    def said(values: Mapping[str, Any], name: str) -> str:
        return json.dumps(values[name]) if name in values else "absent"

    names = dict.fromkeys([*before, *now])
    return [f"{name}: {old} -> {new}" for name in names if (old := said(before, name)) != (new := said(now, name))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 if all is the same, or written."""
    options = parser().parse_args(arguments)
    root = options.root.resolve()
    require_code_of(root)
    before = json.loads(options.against.read_text()) if options.against else None
    spec = "".join(file.read_text(encoding="utf-8") for file in (root / "core" / "spec").glob("*.py"))
    asked = [name for name in options.only or JOBS if JOBS[name].asks in spec]
    asked += [JOBS[name].resumed for name in asked if JOBS[name].resumed not in ("", *asked)]
    found, faults = dict[str, dict[str, Any]](), 0
    with tempfile.TemporaryDirectory(prefix="golden-") as folder:
        bench = Bench(root, Path(folder))
        write_models(bench.inputs)
        write_tables(bench.inputs)
        for name, values, seconds in bench.run_all(asked, options.workers):
            found[name] = values
            wrong = differences({"ended": JOBS[name].ends}, {"ended": values["ended"]})
            if wrong:
                wrong.append(str(values.get("error", "")))
            elif before is not None and (name in before or not JOBS[name].asks):
                wrong = differences(before.get(name, {}), values)
            right = "kept" if before is None else "same" if name in before else "not known before"
            faults += tell(f"{name}, {seconds:.0f} s", wrong, right)
    for name in found:
        if twin := JOBS[name].resumed:
            faults += tell(f"{name}, beside {twin}", differences(found[twin], found[name]), "same")
    if options.write and not faults:
        options.write.write_text(json.dumps(found, indent=1) + "\n")
    return 1 if faults else 0


def tell(name: str, wrong: Sequence[str], right: str) -> bool:
    """Print how a job ended; returns whether it is at fault."""
    more = [f"... and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
    print("\n  ".join([f"{name}: {'DIFFERS' if wrong else right}", *wrong[:SHOWN], *more]), flush=True)
    return bool(wrong)


def parser() -> argparse.ArgumentParser:
    """The options."""
    new = argparse.ArgumentParser(prog="python -m benchmarks.golden", description=__doc__.partition("\n")[0])
    new.add_argument("--root", type=Path, required=True, help="the repository whose code is tried")
    what = new.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="FILE", help="keep what the jobs give")
    what.add_argument("--against", type=Path, metavar="FILE", help="compare it with what was kept")
    new.add_argument("--only", type=known, default=[], metavar="NAME,...", help=", ".join(JOBS))
    new.add_argument("--workers", type=int, default=2, help="jobs at a time, of a process each (2)")
    return new


def known(text: str) -> list[str]:
    """Names of jobs; ArgumentTypeError for another."""
    if unknown := {*text.split(",")} - JOBS.keys():
        raise argparse.ArgumentTypeError(f"no job is called {', '.join(unknown)}; there are {', '.join(JOBS)}")
    return text.split(",")


if __name__ == "__main__":
    sys.exit(main())
