"""The command line says what a stage does in the words of the server's page, whose sentences are the plan's."""

from __future__ import annotations

from api.page import words
from api.planning.prose import sentences
from api.schemas import Plan
from tests.client.test_commands import PLAN
from topwork.progress import STAGES


def test_the_plan_of_the_tests_is_one_of_the_server() -> None:
    assert PLAN["says"] == [*sentences(Plan.model_validate(PLAN))]


def test_stages_are_told_as_on_the_page() -> None:
    assert {name: said for name, (_, said) in words.STAGES.items()} == STAGES
