"""What a student is drawn towards: the teacher's answers and, in recovery, the vectors that these are made of."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.domains.network import TARGET, last_linear
from core.domains.transformer.network import TransformerNetwork
from core.pruning.training.coupling import Stream, phases
from core.pruning.training.losses import batch_loss, labelled_by, turned
from core.pruning.training.predict import predict
from core.tasks.tags import Tags
from tests.tiny import task_rows

ROWS = [list(range(8))]


def recovery(tiny: Path, teacher: TransformerNetwork) -> Stream:
    """The target's stream as recovery draws it, with what the teacher says."""
    [phase] = phases("none", "recover", False, labelled_by(teacher, task_rows(tiny, 8, 0), TARGET), [], 8)
    return phase.streams[0]


def test_the_teacher_says_of_each_row_its_answer_and_the_vector_behind_it(
    network: TransformerNetwork, tiny: Path
) -> None:
    task = task_rows(tiny, 8, 0)
    rows = labelled_by(network, task, TARGET).rows
    assert rows.logits is not None and rows.vectors is not None
    torch.testing.assert_close(rows.logits, predict(network, task.rows), atol=0.02, rtol=0)  # in bfloat16
    _, last = last_linear(network.heads[TARGET])
    assert rows.vectors.shape == (8, last.in_features)
    torch.testing.assert_close(last(rows.vectors.clone()), rows.logits)
    some = rows.take([3, 1])
    assert some.vectors is not None and torch.equal(some.vectors, rows.vectors[[3, 1]])
    assert rows.beside(some).vectors is None


def test_words_have_no_vector_of_their_row(network: TransformerNetwork, tiny: Path) -> None:
    task = task_rows(tiny, 8, 0)
    tagged = replace(task, rows=replace(task.rows, task=Tags(("a", "b"))))
    assert not tagged.rows.task.of_vectors and task.rows.task.of_vectors


def test_vectors_are_distilled_in_recovery_alone(network: TransformerNetwork, tiny: Path) -> None:
    task = labelled_by(network, task_rows(tiny, 8, 0), TARGET)
    found = {
        stage: [stream.vectors for phase in phases("teacher", stage, True, task, [task], 8) for stream in phase.streams]
        for stage in ("teach", "prune", "recover")
    }
    assert not any(found["teach"]) and not any(found["prune"]) and all(found["recover"])


def test_a_student_that_reads_as_the_teacher_does_has_nothing_to_make_up(
    network: TransformerNetwork, tiny: Path
) -> None:
    network.eval()
    stream = recovery(tiny, network)
    answers_alone = batch_loss(network, [replace(stream, vectors=False)], ROWS)
    torch.testing.assert_close(batch_loss(network, [stream], ROWS), answers_alone)


def test_a_vector_that_has_turned_draws_the_body_back(network: TransformerNetwork, tiny: Path) -> None:
    stream, student = recovery(tiny, network), copy.deepcopy(network).eval()
    assert stream.rows.vectors is not None
    stream = replace(stream, rows=replace(stream.rows, vectors=-stream.rows.vectors), label_weight=0.0)
    loss = batch_loss(student, [stream], ROWS)
    answers = batch_loss(student, [replace(stream, vectors=False)], ROWS)
    torch.testing.assert_close(loss - answers, torch.tensor(2.0))
    loss.backward()  # type: ignore[no-untyped-call]
    assert sum(float(p.grad.abs().sum()) for p in student.body.parameters() if p.grad is not None) > 0


def test_vectors_of_a_narrower_student_are_left_alone() -> None:
    assert turned(torch.ones(2, 3), torch.ones(2, 4)) == 0
    assert turned(torch.eye(2), torch.eye(2)) == pytest.approx(0)
    assert turned(torch.eye(2), torch.eye(2).flip(0)) == pytest.approx(1)
