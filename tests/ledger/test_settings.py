"""Settings: a wrong one ends the process with a line, not with a traceback."""

from __future__ import annotations

import pytest

from core.ledger.settings import read_settings


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TOPWORK_MAX_ROWS", "many", "TOPWORK_MAX_ROWS: Input should be a valid integer"),
        ("TOPWORK_LOG", "loud", "TOPWORK_LOG: String should match pattern"),
        ("TOPWORK_LEASE_S", "1", "TOPWORK_HEARTBEAT_S: give at most half of TOPWORK_LEASE_S"),
    ],
)
def test_a_wrong_setting_is_named_in_a_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        read_settings()
    assert str(ended.value).startswith(says) and "\n" not in str(ended.value)
