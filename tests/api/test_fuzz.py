"""Requests made up from the description of the API: whoever sends them, the answer is one that it describes."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import requests
import schemathesis
from fastapi.testclient import TestClient
from huggingface_hub import constants
from hypothesis import HealthCheck, Phase, given
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi import checks

from core.ledger import keys
from core.ledger.database import Database
from tests.api.conftest import one_database
from tests.api.test_keys import app, belongings, client, make_key  # noqa: F401, fixtures among them
from tests.draws import draws

EXAMPLES = 3  # for each operation, caller and mode
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


@one_database
@pytest.mark.hypothesis
@pytest.mark.parametrize("caller", ["operator", "nobody", "stranger"])
def test_every_answer_is_as_described(
    client: TestClient,  # noqa: F811
    belongings: dict[str, str],  # noqa: F811
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caller: str,
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    load_all_checks()
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    own = {"Authorization": client.headers.pop("Authorization")}
    headers = {"operator": own, "nobody": {}, "stranger": make_key(database, "stranger", *keys.SCOPES)}[caller]
    tried, succeeded = 0, set()

    def try_out(operation: Any, mode: GenerationMode) -> None:
        # What the operator has, asked for by its id; wrong requests have made up ids, too.
        known = {name: belongings[name] for name in belongings if f"{{{name}}}" in operation.path}
        cases = operation.as_strategy(mode, path_parameters=known if mode is GenerationMode.POSITIVE else None)

        @draws(EXAMPLES, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(cases)
        def send(case: Any) -> None:
            nonlocal tried
            made = requests.Request(**case.as_transport_kwargs("http://localhost", headers)).prepare()
            answer = client.request(str(made.method), str(made.url), content=made.body, headers=dict(made.headers))
            case.validate_response(answer, checks=CHECKS)
            tried += 1
            if answer.is_success:
                succeeded.add(operation.label)

        with contextlib.suppress(Unsatisfiable):  # where nothing is asked for, nothing can be wrong
            send()

    operations = [result.ok() for result in schema.get_all_operations()]
    for operation in sorted(operations, key=lambda one: one.method == "delete"):
        if operation.path != "/readyz":  # 503: there is no broker here
            for mode in GenerationMode:
                try_out(operation, mode)
    assert tried > 150
    of_others = {label for label in succeeded if "{" in label}
    if caller == "operator":
        assert len(of_others) > 8 and {"POST /v1/keys", "POST /v1/uploads"} <= succeeded, succeeded
    else:
        assert not of_others and (caller == "stranger" or succeeded == {"GET /healthz"})
