"""A job's specification as people take it elsewhere: short, and as a command."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from core.spec.job import JobSpec


def short(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Without what follows from the rest, if that asks for the same."""
    try:
        whole = JobSpec.model_validate(spec)
    except ValidationError:  # of another version
        return dict(spec)
    brief = whole.model_dump(mode="json", exclude_defaults=True)
    usual = brief | {"task": {name: value for name, value in brief["task"].items() if name != "metric"}}
    return next((one for one in (usual, brief) if _asks(one, whole)), whole.model_dump(mode="json"))


def _asks(spec: Mapping[str, Any], whole: JobSpec) -> bool:
    try:
        return JobSpec.model_validate(spec) == whole
    except ValidationError:
        return False


def copies(spec: Mapping[str, Any], address: str, with_key: bool) -> dict[str, str]:
    """The same job, asked for from elsewhere: by curl, in Python, on the command line."""
    said = json.dumps(spec, indent=2, ensure_ascii=False)
    quoted = said.replace("'", "'\\''")
    key = ' -H "Authorization: Bearer $TOPWORK_KEY"' if with_key else ""
    curl = f"curl {address}/v1/jobs -H 'Content-Type: application/json'{key} -d '{quoted}'"
    given = ', key=os.environ["TOPWORK_KEY"]' if with_key else ""
    imports = "import json\n" + "import os\n" * with_key + "\nimport topwork\n"
    python = f'{imports}\nspec = json.loads(r"""{said}""")\njob = topwork.Client("{address}"{given}).jobs.submit(spec)'
    line = f"cat > spec.json <<'END'\n{said}\nEND\ntopwork submit spec.json --watch"
    return {"curl": curl, "Python": python if '"""' not in said else _loads(python), "command line": line}


def _loads(python: str) -> str:
    """Where text of the user would end the string: from a file."""
    start, end = python.index('json.loads(r"""'), python.rindex('""")')
    return python[:start] + 'json.load(open("spec.json"))' + python[end + 4 :]
