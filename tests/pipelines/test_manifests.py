"""The manifests: strictly parsed, complete, and as tight as they say; the examples are what assay itself accepts."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay import __version__, canonical
from assay.config.base import parse
from assay.config.resources import DEFAULT_IMAGE, Resources

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
KINDS = {
    "Namespace": ("v1", {"apiVersion", "kind", "metadata"}),
    "ServiceAccount": ("v1", {"apiVersion", "kind", "metadata"}),
    "Secret": ("v1", {"apiVersion", "kind", "metadata", "type", "stringData"}),
    "Service": ("v1", {"apiVersion", "kind", "metadata", "spec"}),
    "PersistentVolumeClaim": ("v1", {"apiVersion", "kind", "metadata", "spec"}),
    "Role": ("rbac.authorization.k8s.io/v1", {"apiVersion", "kind", "metadata", "rules"}),
    "RoleBinding": ("rbac.authorization.k8s.io/v1", {"apiVersion", "kind", "metadata", "roleRef", "subjects"}),
    "NetworkPolicy": ("networking.k8s.io/v1", {"apiVersion", "kind", "metadata", "spec"}),
    "Deployment": ("apps/v1", {"apiVersion", "kind", "metadata", "spec"}),
}


SIGNS = {  # by role: the module that signs, and the steps in which it does
    "custodian": {"ingest.take": ["ingest"], "sanitize.step": ["sanitize"], "filters.step": ["filter_poison"]},
    "evaluator": {
        "evaluate.shard": ["evaluate"],
        "evaluate.parts": ["evaluate"],
        "evaluate.deliver": ["evaluate"],
        "gate.step": ["gate"],
        "contain": ["contain"],
    },
    "promoter": {"promotion_seal": ["promote"]},
}
NO_STEP = {"approvals", "cli.approve", "doctor", "purge", "quarantine_seal", "release"}  # people at a command line


def documents(file: Path) -> list[dict[str, Any]]:
    """Every document of a file, each strictly parsed: a key twice is an error."""
    return [canonical._StrictYAML(text).get_single_data() for text in file.read_text().split("\n---\n")]


BASE = [
    document
    for file in sorted((MANIFESTS / "base").glob("*.yaml"))
    if file.name != "kustomization.yaml"
    for document in documents(file)
]


def of(kind: str) -> list[dict[str, Any]]:
    return [document for document in BASE if document["kind"] == kind]


@pytest.mark.parametrize("file", sorted(MANIFESTS.rglob("*.yaml")), ids=lambda file: str(file.relative_to(MANIFESTS)))
def test_every_file_parses_strictly(file: Path) -> None:
    assert all(isinstance(document, dict) for document in documents(file))


@pytest.mark.parametrize("document", BASE, ids=lambda document: f"{document['kind']}-{document['metadata']['name']}")
def test_a_resource_is_of_a_known_kind_and_shape(document: dict[str, Any]) -> None:
    version, fields = KINDS[document["kind"]]
    assert document["apiVersion"] == version
    assert set(document) == fields


def test_the_base_names_every_file_and_the_released_image() -> None:
    base = yaml.safe_load((MANIFESTS / "base" / "kustomization.yaml").read_text())
    there = {path.name for path in (MANIFESTS / "base").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(base["resources"]) == there
    assert base["images"] == [{"name": DEFAULT_IMAGE.partition(":")[0], "newTag": __version__}]


def test_every_identity_may_do_the_same_little() -> None:
    accounts = {document["metadata"]["name"] for document in of("ServiceAccount")}
    assert accounts == {"assay-trainer", "assay-evaluator", "assay-promoter"}
    (role,), (binding,) = of("Role"), of("RoleBinding")
    assert {subject["name"] for subject in binding["subjects"]} == accounts
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    for rule in role["rules"]:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        if set(rule["resources"]) & {"secrets", "configmaps"}:
            assert rule["resourceNames"]
            assert rule["verbs"] == ["get"]


def test_everything_is_denied_before_anything_is_allowed() -> None:
    policies = {document["metadata"]["name"]: document["spec"] for document in of("NetworkPolicy")}
    assert policies.pop("deny-all") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for name, spec in policies.items():
        assert spec.get("egress") or spec.get("ingress"), name
        assert set(spec["policyTypes"]) == {side.title() for side in ("ingress", "egress") if side in spec}, name


def test_every_pod_is_hardened() -> None:
    for document in of("Deployment"):
        pod = document["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == Resources().run_as_user
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            mounts, volumes = container["volumeMounts"], pod["volumes"]
            assert {mount["name"] for mount in mounts} == {volume["name"] for volume in volumes}


def test_the_service_selects_the_pods_of_mlflow_and_the_policy_lets_steps_reach_them() -> None:
    (deployment,), (service,) = of("Deployment"), of("Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    policy = next(document["spec"] for document in of("NetworkPolicy") if document["metadata"]["name"] == "mlflow")
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()


def test_the_example_resources_are_accepted_and_keep_each_key_to_its_steps() -> None:
    resources = parse(Resources, canonical.read_yaml(MANIFESTS / "examples" / "resources.yaml"), "resources")
    filled = {document["metadata"]["name"]: document for document in documents(MANIFESTS / "examples" / "secrets.yaml")}
    assert {secret.name for secret in resources.secrets} == set(filled)
    steps = {secret.name: secret.steps for secret in resources.secrets}
    for role, modules in SIGNS.items():
        assert sorted(steps[f"assay-{role}-key"]) == sorted({step for signing in modules.values() for step in signing})
    for secret in resources.secrets:
        keys = set(filled[secret.name]["stringData"])
        assert set(secret.env) <= keys
        used = {value for value in resources.environment.values() if secret.mount and value.startswith(secret.mount)}
        assert {Path(value).name for value in used} == (keys if secret.mount else set())
    (service,) = of("Service")
    tracking = resources.environment["MLFLOW_TRACKING_URI"]
    assert tracking == f"http://{service['metadata']['name']}.assay.svc:{service['spec']['ports'][0]['port']}"


def test_every_module_that_signs_is_known_with_the_steps_it_signs_in() -> None:
    """One more that signs fails here, until the example resources give its step the key."""
    source = ROOT / "src" / "assay"
    calls = {path: ast.parse(path.read_text()) for path in source.rglob("*.py")}
    found = {
        ".".join(path.relative_to(source).with_suffix("").parts)
        for path, tree in calls.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("signers", "seal_quarantine")
    }
    assert found - NO_STEP == {module for modules in SIGNS.values() for module in modules}


def test_mlflow_serves_under_the_names_that_steps_call_it_by() -> None:
    arguments = of("Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"]
    hosts = next(text for text in arguments if text.startswith("--allowed-hosts=")).partition("=")[2].split(",")
    assert "assay-mlflow.assay.svc:5000" in hosts


def test_no_secret_is_filled_in() -> None:
    for document in documents(MANIFESTS / "examples" / "secrets.yaml"):
        assert set(document["stringData"].values()) == {"REPLACE"}


def test_the_image_script_is_sound_and_names_no_mirror() -> None:
    script = MANIFESTS / "image" / "build.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    for file in (script, ROOT / "Dockerfile"):
        assert "://" not in file.read_text().replace("file://", "")


def test_the_image_is_not_root_and_has_all_it_copies() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    user = next(line for line in reversed(lines) if line.startswith("USER "))
    assert user == f"USER {Resources().run_as_user}:{Resources().run_as_user}"
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
