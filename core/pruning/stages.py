"""The stages of a job from data to measured model, resumable between them, and within them from checkpoints."""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.pruning import parallel, sparsity
from core.pruning.auto import Choice, Trials
from core.pruning.checkpoint import Checkpoints
from core.pruning.coupling import Phase, TaskRows, add_heads, first_rows, phases, teacher_head
from core.pruning.cut import cut, reshape
from core.pruning.export import weights_bytes, write_json
from core.pruning.fit import Scores
from core.pruning.fitter import Fitter
from core.pruning.heap import trim_heap
from core.pruning.importance import BATCHES
from core.pruning.inputs import read_inputs
from core.pruning.latency import SEQUENCE_LENGTH, latencies_ms
from core.pruning.losses import labelled_by
from core.pruning.meet import LatencyBudget
from core.pruning.methods import pruning, zeroing
from core.pruning.network import TARGET, Network, device, longest_text, matrices, predict
from core.pruning.problem import Regression
from core.pruning.refit import refit
from core.pruning.regular import fit_of
from core.pruning.runtimes import conditions
from core.pruning.stopwatch import Stopwatch
from core.pruning.train import History, Training, recovery_rate, train
from core.pruning.verdict import lead
from core.spec.cost import Cost, Costs
from core.spec.data import labels_of
from core.spec.estimate import Work, part_left, prices, training_steps, work
from core.spec.job import JobSpec
from core.spec.methods import METHODS
from core.spec.problems import SpecError
from core.spec.structure import Structure

log = logging.getLogger(__name__)
Report = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class ModelRef:
    """A pre-trained model on local disk, and what the user called it."""

    path: Path
    name: str
    revision: str | None = None


@dataclass(frozen=True)
class Plan:
    """Optimiser steps and learning rates, filled in."""

    steps: Mapping[str, int]
    rates: Mapping[str, float]


def plan_training(spec: JobSpec, train_rows: int, left: float, hidden: int) -> Plan:
    """Steps as in `core.spec.estimate`; the rate, if none is asked for, is higher for smaller hidden sizes."""
    steps = training_steps(spec, train_rows, left)
    rate = spec.train.learning_rate or 0.04 / hidden
    return Plan(steps, dict.fromkeys(steps, rate))


@dataclass(frozen=True)
class Outcome:
    """What training and measuring gave."""

    student: Network
    structure: Structure
    cost: Cost  # the one that the budget limits
    limit: int  # of the encoder layers
    results: dict[str, Any]
    logits: Tensor  # of the pruned model on the test rows
    latency: dict[str, Any] | None = None  # how a budget in time was met


class Stages:
    """One pass through the stages; `start` and `width` place it in the progress of the whole job."""

    def __init__(
        self,
        spec: JobSpec,
        model: ModelRef,
        datasets: Mapping[str, Path],
        workdir: Path,
        report: Report,
        *,
        cache: Path | None = None,
        prefix: str = "",
        start: float = 0.0,
        width: float = 1.0,
    ) -> None:
        self.spec, self.model, self.datasets = spec, model, datasets
        self.state, self.output = workdir / "state", workdir / "output"
        self.scratch = workdir / "tmp"
        for folder in (self.state, self.output, self.scratch):
            folder.mkdir(parents=True, exist_ok=True)
        self._report = report
        self.cache = cache
        self.latency: LatencyBudget | None = None  # where the budget is one
        self.prefix, self.start, self.width = prefix, start, width
        self.checkpoints = Checkpoints(self.state, prefix, lambda: self._report({"event": "saved", "stage": "part"}))
        self._began: tuple[float, float] | None = None
        self._heard = 0.0
        self.transfer = spec.transfer.model_copy(update={"coupling": spec.coupling})  # `auto` fills it in
        self.used = list(range(len(spec.sources)))  # numbers of the sources in use
        self.auto: dict[str, Any] | None = None
        self.layout: dict[str, Any] | None = None  # what a regular structure has, beside the free one
        self.timings: dict[str, float] = {}
        self.curves: dict[str, Any] = {}
        self.work: Work | None = None  # what the job computes, counted once its rows are read
        self.given: Tensor | None = None  # logits of the model as it was given, on the test rows

    def prune_and_measure(self) -> Outcome:
        """Every stage but the export."""
        with self.stage("data"):
            network = self.prepare()
            fitter = self.budget(network)
        if self.transfer.coupling == "auto":
            with self.stage("auto"):
                self.decide(network, fitter)
        with self.stage("teach"):
            teacher = self.teach(network)
        with self.stage("prune"):
            student, structure = self.prune(teacher, fitter)
        with self.stage("recover"):
            self.recover(student, teacher)
        with self.stage("measure"):
            if not parallel.first():  # it has done its part, and leaves the machine alone
                parallel.meet()
                return Outcome(student, structure, fitter.cost, fitter.limit, {"pruned": {}}, torch.empty(0))
            results, logits = self.measure(teacher, student, structure)
            latency = self.latency.report(structure) if self.latency else None
            parallel.meet()
        return Outcome(student, structure, fitter.cost, fitter.limit, results, logits, latency)

    # --- stages ---------------------------------------------------------------------------------------------

    def prepare(self) -> Network:
        """The rows, the dense network, and what its units cost."""
        self.inputs, network = read_inputs(self.spec, self.model.path, self.datasets)
        self.sources = self.inputs.sources  # `auto` may use some of them
        shapes = {name: tuple(p.shape) for name, p in network.assembled().named_parameters()}
        rows = [self.inputs.train, *(source.rows for source in self.sources)]
        length = round(float(torch.cat([part.lengths for part in rows]).float().mean()))
        macs = Costs.from_shapes(network.architecture, shapes, length).macs
        row_macs = macs.model(Structure.dense(network.architecture.anatomy))
        length = longest_text(network, self.spec.length)
        self.costs = Costs.from_shapes(network.architecture, shapes, length, self.inputs.spared)
        self.left = part_left(self.spec, self.costs)
        self.plan = plan_training(self.spec, len(self.inputs.train), self.left, network.architecture.hidden)
        self.work = work(self.spec, self.plan.steps, self.left, row_macs, len(self.inputs.test))
        return network

    def budget(self, network: Network) -> Fitter:
        """What makes structures that meet the budget; SpecError if it is out of reach."""
        if (self.spec.budget.sequence_length or 0) > (reads := longest_text(network, self.spec.length)):
            raise SpecError("/budget/sequence_length", f"this model reads at most {reads} tokens")
        if self.spec.budget.sparsity is not None:
            pattern = self.spec.budget.pattern or "unstructured"
            sparsity.require_rest(matrices(network), self.spec.budget.sparsity, pattern)
        if not self.spec.budget.timed:
            return Fitter.counted(self.costs, self.spec.budget, self.spec.export.layout, self.spec.hidden_size)
        cost, limit = parallel.agree(partial(self.time_budget, network))
        return Fitter(cost, limit, fit_of(self.spec.export.layout, network.architecture), self.time_fit)

    def time_budget(self, network: Network) -> tuple[Cost, int]:
        """As `budget`, of a latency: by what is measured."""
        budget = self.spec.budget
        under = conditions(budget, longest_text(network, self.spec.length))
        self._report({"event": "note", "message": f"measuring latency: {under.runtime} on {under.device_name}"})
        watch = Stopwatch(network, list(self.inputs.test.inputs), under, self.alive)
        state = self.state / "latency.json"  # the control's, too: it prunes the same model
        layout = self.spec.export.layout
        self.latency = LatencyBudget(budget, network.architecture, under, watch.measure, state, self.cache, layout)
        self._report({"event": "saved", "stage": "data"})
        return self.latency.cost, self.latency.limit

    def time_fit(self, scores: Scores) -> Structure:
        """The structure that meets a budget in time, measured until it does."""
        assert self.latency is not None
        return self.latency.fit(scores)

    def decide(self, network: Network, fitter: Fitter) -> None:
        """`auto`: settle the coupling, the stages and the sources by trials on the train and dev rows."""
        facts = self.state / f"{self.prefix}auto.json"
        if facts.exists():
            found = json.loads(facts.read_text())
            self.timings["auto"] = found.get("seconds", 0.0)
        else:
            rows = self.inputs.train.beside(self.inputs.dev)
            trials = Trials(
                network,
                replace(fitter, measured=None),
                rows,
                max(2, len(self.inputs.dev), len(rows) // 4),
                self.sources,
                stages=self.transfer.active,
                steps=self.plan.steps,
                rate=self.plan.rates["teach"],
                batch_size=self.spec.train.batch_size,
                balanced=self.spec.task.metric in ("balanced_accuracy", "f1"),
                seed=self.spec.train.seed,
                report=self.report,
                checkpoints=self.checkpoints.at,
            )
            decision = trials.decide()
            taken = {"chosen": str(decision.choice), "seconds": time.monotonic() - self._started}
            found = json.loads(json.dumps(asdict(decision) | taken))  # as a resumed job reads it
            try:
                write_json(self.scratch / "facts", found)
                (self.scratch / "facts").replace(facts)
                self.checkpoints.at("auto").drop()
                self._report({"event": "saved", "stage": "auto"})
            except OSError as error:  # a full disk: the job goes on, and tries again if it is resumed
                log.warning("cannot save what was decided: %s", error)
        self.auto = found
        self.auto.pop("seconds", None)
        choice = Choice(**self.auto.pop("choice"))
        learned = self.transfer.weighting == "learned" and choice.coupling == "teacher"
        self.transfer = self.transfer.model_copy(
            update={
                "coupling": choice.coupling,
                "stages": list(choice.stages) or None,
                "weighting": "learned" if learned else "fixed",
            }
        )
        self.used = list(choice.sources)
        unlabelled = {i: replace(self.sources[i], classes=0) for i in self.auto.get("as_text", [])}
        self.sources = [unlabelled.get(i, self.sources[i]) for i in self.used]

    def teach(self, network: Network) -> Network:
        """Fine-tune the dense model: the teacher, and where the student starts. Its own head is heard before."""
        if self.inputs.head.own and parallel.first() and not self.prefix:  # the control starts from the same model
            done = self.checkpoints.at("given")
            self.given = predict(network.to(device()), self.inputs.test, alive=self.alive, checkpoint=done)
        plan = self.phases("teach", self.inputs.target, self.sources)
        add_heads(network, plan, self.sources)
        self.fine_tune(network, plan, "teach")
        return network.to(device()).eval()

    def prune(self, teacher: Network, fitter: Fitter) -> tuple[Network, Structure]:
        """Choose the units on a copy of the teacher, and cut it."""
        student = copy.deepcopy(teacher)
        target, sources = self.taught(teacher)
        plan = self.phases("prune", target, sources)
        add_heads(student, plan, self.sources)
        if (saved := self.load("prune")) is None:
            training = self.training("prune")
            name, budget, batch = self.spec.method.name, self.spec.budget, self.spec.train.batch_size
            if budget.sparsity is not None:
                structure, pattern = Structure.dense(student.architecture.anatomy), budget.pattern or "unstructured"
                history = zeroing(name)(student, budget.sparsity, pattern, plan, self.inputs.dev, training)
            else:
                structure, history = pruning(name)(student, fitter, plan, self.inputs.dev, training)
                self.layout = fitter.beside
            if "weights" not in self.transfer.share:  # the structure is all that the sources may give
                student = copy.deepcopy(teacher)
                add_heads(student, plan, self.sources)
                cut(student, structure)
            shared = "weights" in self.transfer.share
            cut_alone = budget.sparsity is None and not (METHODS[name].trains and shared)
            if cut_alone and not self.plan.steps["recover"]:
                taken = plan if shared else phases("none", "prune", False, target, [], batch)
                refit(student, teacher, taken, self.spec.train.seed, structure, self.alive)
            self.curves["prune"] = asdict(history)
            found = {"history": asdict(history), "structure": structure.to_json(), "layout": self.layout}
            self.save("prune", student, found | {"fits": self.latency.fits if self.latency else []})
        else:
            weights, facts = saved
            structure, self.layout = Structure.from_json(facts["structure"]), facts.get("layout")
            reshape(student, structure)
            student.load_state_dict(weights, strict=True)
            self.curves["prune"] = facts["history"]
            if self.latency:
                self.latency.fits = facts["fits"]
        return student.to(device()), structure

    def recover(self, student: Network, teacher: Network) -> None:
        """Train what is left."""
        target, sources = self.taught(teacher)
        plan = self.phases("recover", target, sources)
        add_heads(student, plan, self.sources)
        rate = recovery_rate(self.plan.rates["recover"], student, teacher)
        self.plan = replace(self.plan, rates={**self.plan.rates, "recover": rate})
        student.drop_nothing()
        if self.spec.budget.sparsity is not None:
            sparsity.hold(student)
        self.fine_tune(student, plan, "recover")

    def measure(self, teacher: Network, student: Network, structure: Structure) -> tuple[dict[str, Any], Tensor]:
        """The test rows, once, in float32; sizes; latency of both models in turn. Numbers are in their own unit.

        Beside them, what always giving the commonest training answer comes to, and how far each model leads that; and,
        where its own head knows the labels, the model as it was given, with how far the others are from it.
        """
        models = {"dense": teacher.eval(), "pruned": student.eval()}
        inputs, splits = self.inputs, self.inputs.splits
        if isinstance(inputs.problem, Regression):
            for network in models.values():
                network.rescale(inputs.problem.deviation, inputs.problem.mean)
            unscaled = Regression(inputs.problem.labels)
            inputs.test = replace(inputs.test, labels=unscaled.truth(labels_of(splits.test)), problem=unscaled)
        structures = {"dense": Structure.dense(teacher.architecture.anatomy), "pruned": structure}
        speed = latencies_ms(
            {name: network.assembled() for name, network in models.items()},
            list(inputs.test.inputs),
            teacher.body.config.vocab_size,
            length := longest_text(teacher, SEQUENCE_LENGTH),
            self.alive,
        )
        results: dict[str, Any] = {}
        logits = {}
        for name, network in models.items():
            done = self.checkpoints.at(f"recover-test-{name}")
            logits[name] = predict(network, inputs.test, alive=self.alive, checkpoint=done)
            results[name] = {
                "test": inputs.test.problem.intervals(logits[name], inputs.test.labels),
                "encoder_params": self.costs.of(structures[name]).params.of(structures[name]),
                "model_params": self.costs.of(structures[name]).params.model(structures[name]),
                "macs": self.costs.of(structures[name]).macs.model(structures[name]),
                "macs_length": self.costs.length,  # tokens of the text
                "bytes": weights_bytes(network),
                "latency_length": length,
                "latency_ms": speed[name],
                "speedup": {b: round(speed["dense"][b] / ms, 2) for b, ms in speed[name].items()},
            }
        labels = inputs.test.labels
        usual = inputs.test.problem.usual(labels_of(splits.train), labels)
        results["baseline"] = {"test": inputs.test.problem.intervals(usual, labels)}
        for name in models:
            results[name]["lead"] = lead(inputs.test.problem, self.spec.task.metric, logits[name], labels, usual)
        if self.given is not None:
            problem = inputs.test.problem
            change = {name: problem.apart(logits[name], self.given, labels) for name in models}
            results["given"] = {"test": problem.intervals(self.given, labels), "change": change}
        return results, logits["pruned"]

    # --- helpers --------------------------------------------------------------------------------------------

    def phases(self, stage: str, target: TaskRows, sources: list[TaskRows]) -> list[Phase]:
        """The stage's phases under the job's coupling."""
        coupling, active = str(self.transfer.coupling), stage in self.transfer.active
        return phases(coupling, stage, active, target, sources, self.spec.train.batch_size, self.transfer.share)

    def source_weights(self) -> dict[str, list[list[float]]]:
        """Learned weights over the whole job: task -> [[step, weight], ...], steps counted from the first stage on."""
        names = ["target", *(f"source {i}" for i in self.used)]
        result: dict[str, list[list[float]]] = {}
        before = 0
        for stage, steps in self.plan.steps.items():
            for step, *values in self.curves[stage]["weights"]:
                for name, value in zip(names, values, strict=True):
                    result.setdefault(name, []).append([before + step, value])
            before += steps
        return result

    def taught(self, teacher: Network) -> tuple[TaskRows, list[TaskRows]]:
        """The rows with the teacher's logits, computed once for both stages that need them."""
        if not hasattr(self, "_taught"):
            stages = set(self.transfer.active) & {"prune", "recover"}
            coupling, steps = str(self.transfer.coupling), self.plan.steps
            drawn = max(BATCHES, steps["prune"]) + steps["recover"]
            given = first_rows(coupling, self.sources, drawn, self.spec.train.batch_size) if stages else []

            def label(task: TaskRows, head: str, name: str) -> TaskRows:
                return labelled_by(teacher, task, head, self.alive, self.checkpoints.at(f"teach-labels-{name}"))

            sources = [label(source, teacher_head(coupling, source), str(i)) for i, source in enumerate(given)]
            self._taught = label(self.inputs.target, TARGET, "target"), sources
        return self._taught

    def fine_tune(self, network: Network, plan: list[Phase], stage: str) -> None:
        """One stage of plain training, if it was not done before; of none, where it has no steps."""
        if (saved := self.load(stage)) is not None:
            weights, facts = saved
            network.load_state_dict(weights, strict=True)
            self.curves[stage] = facts["history"]
            return
        history = History()
        if self.plan.steps[stage]:
            history = train(
                network, plan, self.inputs.dev, self.training(stage), stage=stage, metric=self.spec.task.metric
            )
        self.curves[stage] = asdict(history)
        self.save(stage, network, {"history": self.curves[stage]})

    def training(self, stage: str) -> Training:
        """What a stage trains with."""
        steps, rate, seed = self.plan.steps[stage], self.plan.rates[stage], self.spec.train.seed
        learned = self.transfer.weighting == "learned"
        return Training(steps, rate, seed, self.report, learned, self.checkpoints.at(stage))

    def alive(self) -> None:
        """A sign of life, at most once a second, where no steps can be counted."""
        if time.monotonic() - self._heard >= 1.0:
            self._heard = time.monotonic()
            self._report({"event": "alive"})

    def report(self, message: Mapping[str, Any]) -> None:
        """Pass on, with how far the whole job is."""
        if message["event"] == "progress":
            cost = {stage: self.plan.steps[stage] * price for stage, price in prices(self.left).items()}
            if self.spec.coupling == "auto":
                cost = {"auto": sum(cost.values())} | cost
            before = sum(list(cost.values())[: list(cost).index(message["stage"])])
            done = before + cost[message["stage"]] * message["step"] / message["steps"]
            share = 0.95 * done / max(1, sum(cost.values()))
            overall = self.start + self.width * share
            message = {**message, "eta_s": self.eta(overall), "overall": round(overall, 3)}
        self._say(message)

    def _say(self, message: Mapping[str, Any]) -> None:
        """The control has the job's own stages: what is said of them tells so."""
        self._report({**message, "control": True} if self.prefix else message)

    def eta(self, share: float) -> float | None:
        """Seconds left of the job, of which so much is done, at the pace since the first progress of this attempt."""
        now = time.monotonic()
        if self._began is None:
            self._began = (now, share)
        since, first = self._began
        return round((now - since) * (1 - share) / (share - first), 1) if share > first else None

    @contextmanager
    def stage(self, name: str) -> Any:
        """Announce a stage and time it."""
        self._say({"event": "stage", "stage": name})
        trim_heap()
        self._started = time.monotonic()
        yield
        self.timings[name] = self.timings.get(name, 0.0) + time.monotonic() - self._started

    def save(self, stage: str, network: Network, facts: dict[str, Any]) -> None:
        """Keep a stage's result; the JSON file comes last and makes it valid."""
        if not parallel.first():
            return self.checkpoints.at(stage).drop()
        weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
        try:
            save_file(weights, self.scratch / "weights")
            (self.scratch / "weights").replace(self.state / f"{self.prefix}{stage}.safetensors")
            facts = facts | {"seconds": time.monotonic() - self._started, "labels": self.inputs.splits.labels}
            write_json(self.scratch / "facts", facts)
            (self.scratch / "facts").replace(self.state / f"{self.prefix}{stage}.json")
        except (OSError, SafetensorError) as error:  # a full disk: the job goes on, with more to lose
            return log.warning("cannot save the stage %s: %s", stage, error)
        self.checkpoints.at(stage).drop()
        self._report({"event": "saved", "stage": stage})

    def load(self, stage: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """A stage's saved result, or None."""
        facts = self.state / f"{self.prefix}{stage}.json"
        if not facts.exists():
            return None
        found = json.loads(facts.read_text())
        labels = self.inputs.splits.labels
        if found.get("labels", sorted(labels)) != labels:  # of a version that sorted them
            return None
        self.timings[stage] = found.get("seconds", 0.0)  # of the attempt that did it
        return load_file(self.state / f"{self.prefix}{stage}.safetensors"), found
