"""The manifests of docs/kubernetes: accepted by Kubernetes' own schemas, and of one mind with the compose file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from core.ledger.settings import Settings

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OBJECTS: list[dict[str, Any]] = [
    one for file in sorted((ROOT / "docs/kubernetes").glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())
]
PODS = {
    one["metadata"]["name"].removeprefix("topwork-"): one["spec"]["template"]["spec"]
    for one in OBJECTS
    if one["kind"] in ("Deployment", "Job")
}


@pytest.mark.parametrize("one", OBJECTS, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_the_schemas_of_kubernetes_accept_each_object(one: dict[str, Any]) -> None:
    kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)


def test_a_field_that_kubernetes_does_not_know_is_refused() -> None:
    one = next(one for one in OBJECTS if one["kind"] == "Deployment")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            one | {"spec": one["spec"] | {"scale": 2}}, kubernetes_validate.latest_version(), strict=True
        )


def test_pods_run_what_the_compose_file_runs_within_the_same_bounds() -> None:
    ours = {name: one for name, one in SERVICES.items() if "build" in one}
    assert PODS.keys() == ours.keys()
    for name, pod in PODS.items():
        (container,) = pod["containers"]
        assert (container["command"], container["image"]) == (ours[name]["command"], ours[name]["image"])
        assert f"{pod['terminationGracePeriodSeconds']}s" == ours[name]["stop_grace_period"]
        assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"] == {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]} >= {"data", "tmp"}


def test_no_part_is_killed_while_the_database_is_away() -> None:
    probes = {name: pod["containers"][0].get("livenessProbe") for name, pod in PODS.items()}
    assert {name for name, probe in probes.items() if probe} == {"api"}
    assert probes["api"]["httpGet"]["path"] == "/healthz"


def test_objects_name_each_other_and_settings_that_there_are() -> None:
    names = {(one["kind"], one["metadata"]["name"]) for one in OBJECTS}
    settings = next(one["data"] for one in OBJECTS if one["kind"] == "ConfigMap")
    known = {f"TOPWORK_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in settings if name.startswith("TOPWORK_")} <= known
    for pod in PODS.values():
        assert [*pod["containers"][0]["envFrom"]] == [
            {"configMapRef": {"name": "topwork"}},
            {"secretRef": {"name": "topwork"}},
        ]
        for volume in pod["volumes"]:
            claim = volume.get("persistentVolumeClaim")
            assert claim is None or ("PersistentVolumeClaim", claim["claimName"]) in names


def test_workers_are_scaled_by_a_metric_that_there_is() -> None:
    scaler = next(one["spec"] for one in OBJECTS if one["kind"] == "HorizontalPodAutoscaler")
    assert scaler["scaleTargetRef"]["name"] == "topwork-worker"
    (metric,) = [one["external"]["metric"] for one in scaler["metrics"]]
    assert re.search(rf'"{metric["name"]}"', (ROOT / "api/routes/monitoring.py").read_text())
