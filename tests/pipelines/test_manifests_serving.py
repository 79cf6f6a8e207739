"""The serving manifests: the very command of their init container hands over a verified model, or none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from promotion_cases import Candidate
from test_manifests import KINDS, MANIFESTS, documents

from assay import __version__
from assay.config.resources import DEFAULT_IMAGE, Resources
from assay.models.spec import model_digest
from assay.serving import ANNOTATIONS
from assay.workspace import Workspace

SERVING = MANIFESTS / "serving"
HARDENED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def pod(name: str) -> tuple[dict[str, Any], dict[str, str], dict[str, str]]:
    """The pod a manifest makes: its spec, annotations and labels."""
    (document,) = documents(SERVING / name)
    if document["kind"] == "Deployment":
        template = document["spec"]["template"]
        return template["spec"], template["metadata"]["annotations"], template["metadata"]["labels"]
    predictor = document["spec"]["predictor"]
    return predictor, document["metadata"]["annotations"], predictor["labels"]


PODS = pytest.mark.parametrize("name", ["deployment.yaml", "kserve.yaml"])


def promote_in(folder: Path, **more: Any) -> Candidate:
    """A candidate promoted in a workspace of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if name.startswith(("ASSAY_", "MLFLOW_"))]:
            patch.delenv(variable)
        patch.setenv("ASSAY_HOME", str(folder / ".assay"))
        made = Candidate(Workspace.from_env(), folder / "candidate", **more)
        made.through()
    return made


@pytest.fixture(scope="module")
def loadable(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """A model that torch can load, promoted."""
    from model_cases import folder as model_folder

    folder = tmp_path_factory.mktemp("promoted")
    return promote_in(folder, model=model_folder(folder / "model"))


def verify(name: str, promoted: Candidate, folder: Path, **annotations: str) -> subprocess.CompletedProcess[str]:
    """Run the command of the init container, its mounts below a folder, its services those of a laptop."""
    (container,) = pod(name)[0]["initContainers"]
    mounts = sorted((mount["mountPath"] for mount in container["volumeMounts"]), key=len, reverse=True)
    here = {"/keys/ring": promoted.workspace.keyring_path.parent}
    fields = {f"metadata.annotations['{key}']": value for key, value in annotations.items()}
    environment = {**os.environ, "ASSAY_HOME": str(folder / "tmp"), "OMP_NUM_THREADS": "1"}
    for variable in container["env"]:
        source = variable.get("valueFrom", {})
        environment[variable["name"]] = (
            fields.get(source["fieldRef"]["fieldPath"], "") if "fieldRef" in source else variable.get("value", "")
        )
    environment |= {
        "ASSAY_LEDGER": promoted.workspace.ledger_uri,
        "MLFLOW_TRACKING_URI": promoted.workspace.tracking_uri,
    }
    argv = []
    for word in [*container["command"], *container["args"]]:
        for variable, value in environment.items():
            word = word.replace(f"$({variable})", value)
        mount = next((mount for mount in mounts if f"={mount}/" in word), None)
        argv.append(word.replace(mount, str(here.get(mount, folder / mount.strip("/")))) if mount else word)
    assert argv[0] == "assay"
    command = [sys.executable, "-m", "assay.cli", *argv[1:]]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
@PODS
def test_the_command_hands_over_the_promoted_model_and_prints_its_annotations(
    name: str, loadable: Candidate, tmp_path: Path
) -> None:
    (decision,) = loadable.workspace.ledger.names("decisions/")
    pinned = {ANNOTATIONS["model"]: loadable.digest, ANNOTATIONS["decision"]: Path(decision).name.partition(".")[0]}
    done = verify(name, loadable, tmp_path, **pinned)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["replayed"] is True
    assert model_digest(tmp_path / "models" / "current") == loadable.digest
    assert pinned.items() <= document["annotations"].items()


@pytest.mark.slow
def test_the_command_serves_nothing_else_than_the_annotations_name(tmp_path: Path) -> None:
    promoted = promote_in(tmp_path)
    done = verify("deployment.yaml", promoted, tmp_path, **{ANNOTATIONS["model"]: "0" * 64})
    assert done.returncode == 1
    assert "annotations" in json.loads(done.stdout)["error"]["message"]
    assert not (tmp_path / "models" / "current").exists()


@PODS
def test_the_annotations_are_those_that_the_check_prints_and_the_logger_copies(name: str) -> None:
    spec, annotations, _ = pod(name)
    assert set(annotations) == {ANNOTATIONS["model"], ANNOTATIONS["decision"]}
    if "logger" in spec:
        assert set(spec["logger"]["metadataAnnotations"]) == set(annotations)


@PODS
def test_a_serving_pod_is_hardened_and_holds_no_private_key(name: str) -> None:
    spec, _, labels = pod(name)
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == Resources().run_as_user
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for container in spec["initContainers"] + spec["containers"]:
        assert container["securityContext"] == HARDENED
        assert container["resources"]["limits"]["memory"]
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
    (server,) = spec["containers"]
    assert server["volumeMounts"] == [{"name": "models", "mountPath": "/models", "readOnly": True}]
    assert volumes["keyring"]["secret"]["secretName"] == "assay-keyring"
    assert "_KEY" not in {entry["name"].removeprefix("ASSAY_EVALUATOR").removeprefix("ASSAY_PROMOTER")
                          for entry in spec["initContainers"][0]["env"]}  # fmt: skip
    policies = [document for document in documents(SERVING / "common.yaml") if document["kind"] == "NetworkPolicy"]
    assert policies[0]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_both_manifests_run_the_same_check() -> None:
    plain, kserve = (pod(name)[0]["initContainers"][0] for name in ("deployment.yaml", "kserve.yaml"))
    assert kserve.pop("image") == f"{plain.pop('image')}:{__version__}" == DEFAULT_IMAGE
    assert plain == kserve


def test_the_serving_base_is_complete() -> None:
    base = yaml.safe_load((SERVING / "kustomization.yaml").read_text())
    assert base["resources"] == ["common.yaml", "deployment.yaml"]
    assert base["images"] == [{"name": DEFAULT_IMAGE.partition(":")[0], "newTag": __version__}]
    for document in [*documents(SERVING / "common.yaml"), *documents(SERVING / "deployment.yaml")]:
        assert document["apiVersion"] == KINDS[document["kind"]][0]
