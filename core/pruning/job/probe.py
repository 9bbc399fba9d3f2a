"""`probe`: what the model takes on this machine, and nothing else."""

from __future__ import annotations

from dataclasses import replace

from core.domains.network import Network
from core.pruning.export.files import environment
from core.pruning.export.probe_page import write_probe_page
from core.pruning.job.goal import latency_budget
from core.pruning.job.passes import Pass
from core.pruning.reading.inputs import Inputs
from core.pruning.reading.read import read_inputs
from core.pruning.system import parallel
from core.pruning.system.files import write_json
from core.spec.budget import Budget, Runtime
from core.spec.job import JobSpec
from core.spec.latency import Latency
from core.spec.report import ProbeReport

ANY = 1.001  # a speed-up that every machine gives


def probe(one: Pass) -> ProbeReport:
    """Measure the range of each of the conditions; what was measured is said at once, for other jobs."""
    with one.teller.stage("data"):
        inputs, network = read_inputs(one.spec, one.model.path, one.datasets, lambda _network, rows, _name: rows.labels)
        asked = conditions(one.spec) if parallel.first() else []
        found = [measured(one, budget, number, network, inputs) for number, budget in enumerate(asked)]
        parallel.meet()
    report = ProbeReport(latency=found, timings_s=dict(one.teller.timings), environment=environment())
    if parallel.first():
        write_json(one.output / "report.json", report.to_json())
        write_probe_page(report, one.spec, one.model, one.output / "report.html")
    parallel.leave()
    return report


def conditions(spec: JobSpec) -> list[Budget]:
    """Of each budget in time, once; of none, eager and in the files that were asked for."""
    timed = [budget for budget in spec.every_budget if budget.timed]
    if not timed:
        length = spec.every_budget[0].sequence_length
        runtimes: list[Runtime] = ["torch", *spec.onnx_formats]
        return [Budget(speedup=ANY, runtime=name, sequence_length=length) for name in runtimes]
    asked = {"latency_ms": None, "speedup": ANY}
    return list({repr(one): one for one in (budget.model_copy(update=asked) for budget in timed)}.values())


def measured(one: Pass, budget: Budget, number: int, network: Network, inputs: Inputs) -> Latency:
    """Under the conditions of a budget."""
    spec = one.spec.model_copy(update={"one_budget": budget, "budgets": []})
    teller = one.teller.of(f"probe{number}")
    alone = replace(one, spec=spec, teller=teller, state=one.state.beside(f"{teller.size}-", teller))
    return latency_budget(alone, network, inputs.test.blank).latency
