"""Every pipeline compiles to what a cluster needs: both documents, placement, no cache, branches that come in pairs."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import dsl
from stub_components import stub

from assay import catalog
from assay.components import STEPS
from assay.config import Config
from assay.config.resources import Placement, Resources, Secret, Toleration
from assay.errors import UnfitInput, UnknownName
from assay.examples.tiny import Tiny
from assay.kubeflow.compile import compile_components, compile_pipeline
from assay.kubeflow.pipelines import load
from assay.runner.branches import check_branches
from assay.runner.run import pipeline_spec

PIPELINES = tuple(catalog.names("pipelines"))
NESTING = ("respond_to_incident", "retrain_on_drift")  # each compiles robust_training once more
SCORING = "score_features"  # decides nothing
ONE_FAST = [
    pytest.param(name, marks=[pytest.mark.slow] if name != "evaluate_and_promote" else [])
    for name in PIPELINES
    if name != SCORING
]
SOME_SLOW = [pytest.param(name, marks=[pytest.mark.slow] if name in NESTING else []) for name in PIPELINES]
RESOURCES = Resources(
    image="registry.example/team/assay-python@sha256:" + 64 * "a",
    gpu=Placement(
        gpu_count=2,
        gpu_type="nvidia.com/gpu",
        node_selector={"nvidia.com/gpu.product": "NVIDIA-A100"},
        tolerations=(
            Toleration(key="nvidia.com/gpu", effect="NoSchedule"),
            Toleration(key="pool", operator="Equal", value="gpu"),
        ),
        cpu="4",
        memory="16Gi",
        shared_memory="8Gi",
    ),
    environment={"MLFLOW_TRACKING_URI": "http://mlflow:5000"},
    secrets=(
        Secret(name="storage", env={"access": "AWS_ACCESS_KEY_ID"}),
        Secret(name="promoter-key", mount="/keys", steps=("promote",)),
    ),
    image_pull_secrets=("pull",),
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    path, _ = Tiny().write(tmp_path_factory.mktemp("tiny"))
    return Config.load(path).model_copy(update={"resources": RESOURCES})


def parsed(text: bytes) -> list[dict[str, Any]]:
    return list(yaml.load_all(text, yaml.CSafeLoader))


@pytest.fixture(scope="module")
def texts(config: Config) -> dict[str, bytes]:
    return {name: compile_pipeline(name, config).yaml for name in PIPELINES}


@pytest.fixture(scope="module")
def compiled(texts: dict[str, bytes]) -> dict[str, list[dict[str, Any]]]:
    return {name: parsed(text) for name, text in texts.items()}


def executors(documents: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Container and platform settings by executor; importers, which run nothing of ours, are left out."""
    spec, platform = documents
    containers = {
        name: body["container"] for name, body in spec["deploymentSpec"]["executors"].items() if "container" in body
    }
    return containers, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def tasks(spec: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    dags = [spec["root"]["dag"], *(body["dag"] for body in spec["components"].values() if "dag" in body)]
    return [(name, task) for dag in dags for name, task in dag["tasks"].items()]


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_is_two_documents_and_places_every_task(name: str, compiled: dict[str, Any]) -> None:
    documents = compiled[name]
    assert len(documents) == 2
    containers, placed = executors(documents)
    assert set(containers) == set(placed)
    for executor, body in placed.items():
        labels = {"part-of": "assay", "component": executor.removeprefix("exec-").replace("-", "_")}
        expected = {f"app.kubernetes.io/{name}": value for name, value in labels.items()}
        assert body["podMetadata"]["labels"] == expected, "network policies go by these"
        mount = body["emptyDirMounts"][0]
        assert (mount["mountPath"], mount["medium"]) == ("/dev/shm", "Memory")
        assert body["securityContext"] == {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}
        assert body["imagePullSecret"][0]["secretName"] == "pull"


@pytest.mark.parametrize("name", PIPELINES)
def test_only_train_and_evaluate_go_to_gpu_nodes(name: str, compiled: dict[str, Any]) -> None:
    containers, placed = executors(compiled[name])
    gpu = {"exec-train", "exec-evaluate"} & set(containers)
    assert ("exec-evaluate" in gpu) == (name != SCORING)
    for executor in gpu:
        resources, body = containers[executor]["resources"], placed[executor]
        assert resources["accelerator"]["resourceType"] == "nvidia.com/gpu"
        assert resources["accelerator"]["resourceCount"] == "2"
        assert (resources["resourceCpuLimit"], resources["resourceMemoryLimit"]) == ("4", "16Gi")
        assert body["nodeSelector"] == {"labels": {"nvidia.com/gpu.product": "NVIDIA-A100"}}
        assert body["tolerations"] == [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "pool", "operator": "Equal", "value": "gpu"},
        ]
        assert body["emptyDirMounts"][0]["sizeLimit"] == "8Gi"
    for executor in set(containers) - gpu:
        assert "accelerator" not in containers[executor].get("resources", {})
        assert not {"nodeSelector", "tolerations"} & set(placed[executor])


def test_the_filter_goes_to_gpu_nodes_where_it_is_told_to(config: Config) -> None:
    resources = RESOURCES.model_copy(update={"gpu_steps": ("evaluate", "filter_poison")})
    own = config.model_copy(update={"resources": resources})
    containers, placed = executors(parsed(compile_pipeline("robust_training", own).yaml))
    with_gpu = {name for name, container in containers.items() if "accelerator" in container.get("resources", {})}
    assert with_gpu == {"exec-evaluate", "exec-filter-poison"}
    assert {name for name, body in placed.items() if "nodeSelector" in body} == with_gpu


def test_the_defaults_place_train_and_evaluate_on_gpu_nodes_too() -> None:
    containers, placed = executors(parsed(compile_pipeline("robust_training", None).yaml))
    for executor in ("exec-train", "exec-evaluate"):
        assert containers[executor]["resources"]["accelerator"]["resourceCount"] == "1"
        assert placed[executor]["nodeSelector"]["labels"] == {"nvidia.com/gpu.present": "true"}


@pytest.mark.parametrize("name", ONE_FAST)
def test_a_node_selector_of_the_run_form_wins(name: str, config: Config) -> None:
    offered = config.model_copy(update={"resources": RESOURCES.model_copy(update={"runtime_node_selector": True})})
    documents = parsed(compile_pipeline(name, offered).yaml)
    parameter = documents[0]["root"]["inputDefinitions"]["parameters"]["gpu_node_selector"]
    assert parameter["defaultValue"] == {"nvidia.com/gpu.product": "NVIDIA-A100"}
    _, placed = executors(documents)
    selector = placed["exec-evaluate"]["nodeSelector"]
    assert selector == {"nodeSelectorJson": {"componentInputParameter": "gpu_node_selector"}}
    # the parameter the platform document names is one that the task's own DAG has
    owner = next(
        body
        for body in [documents[0]["root"], *documents[0]["components"].values()]
        if "evaluate" in body.get("dag", {}).get("tasks", {})
    )
    assert "gpu_node_selector" in owner["inputDefinitions"]["parameters"]


@pytest.mark.parametrize("name", ONE_FAST)
def test_shards_of_evaluate_each_get_a_node_and_one_task_makes_evidence_of_them(name: str, config: Config) -> None:
    """A loop over fixed shards whose parts are collected; each is placed, and given keys, as evaluate is."""
    shared = RESOURCES.model_copy(
        update={"evaluate_shards": 3, "secrets": (Secret(name="key", mount="/key", steps=("evaluate",)),)}
    )
    documents = parsed(compile_pipeline(name, config.model_copy(update={"resources": shared})).yaml)
    found = dict(tasks(documents[0]))
    assert "evaluate" not in found
    ((loop_name, loop),) = [(key, task) for key, task in found.items() if "parameterIterator" in task]
    assert json.loads(loop["parameterIterator"]["items"]["raw"]) == ["1/3", "2/3", "3/3"]
    assert loop["parameterIterator"]["itemInput"] in found["evaluate-shard"]["inputs"]["parameters"]["shard"].values()
    given = found["merge-evidence"]["inputs"]["artifacts"]
    assert given["parts"]["taskOutputArtifact"]["producerTask"] == loop_name
    assert loop_name in found["merge-evidence"]["dependentTasks"]
    for reader in ("gate", *(["report"] if "report" in found else [])):
        evidence = found[reader]["inputs"]["artifacts"]["evidence"]["taskOutputArtifact"]
        assert evidence == {"outputArtifactKey": "evidence", "producerTask": "merge-evidence"}
    containers, placed = executors(documents)
    for executor in ("exec-evaluate-shard", "exec-merge-evidence"):
        assert containers[executor]["resources"]["accelerator"]["resourceCount"] == "2"
        assert placed[executor]["nodeSelector"] == {"labels": {"nvidia.com/gpu.product": "NVIDIA-A100"}}
        assert placed[executor]["podMetadata"]["labels"]["app.kubernetes.io/component"] == "evaluate"
        assert placed[executor]["secretAsVolume"][0]["secretName"] == "key"


def test_shards_of_score_features_are_joined_by_one_task(config: Config) -> None:
    """A loop over fixed shards, each with the CPU, memory and secrets of a step without GPU, as the task after it."""
    shared = RESOURCES.model_copy(
        update={
            "score_shards": 3,
            "default": Placement(cpu="2", memory="4Gi"),
            "secrets": (Secret(name="key", mount="/key", steps=("score_features",)),),
        }
    )
    documents = parsed(compile_pipeline(SCORING, config.model_copy(update={"resources": shared})).yaml)
    found = dict(tasks(documents[0]))
    ((loop_name, loop),) = [(key, task) for key, task in found.items() if "parameterIterator" in task]
    assert json.loads(loop["parameterIterator"]["items"]["raw"]) == ["1/3", "2/3", "3/3"]
    assert loop["parameterIterator"]["itemInput"] in found["sum-features"]["inputs"]["parameters"]["shard"].values()
    given = found["score-features"]["inputs"]["artifacts"]
    assert given["states"]["taskOutputArtifact"]["producerTask"] == loop_name
    assert set(given) == {"features", "labels", "states", "trusted", "trusted_labels"}
    containers, placed = executors(documents)
    for executor in ("exec-sum-features", "exec-score-features"):
        limits = {"resourceCpuLimit": "2", "resourceCpuRequest": "2"}
        limits |= {"resourceMemoryLimit": "4Gi", "resourceMemoryRequest": "4Gi"}
        assert limits.items() <= containers[executor]["resources"].items()
        assert "accelerator" not in containers[executor]["resources"]
        assert placed[executor]["podMetadata"]["labels"]["app.kubernetes.io/component"] == "score_features"
        assert placed[executor]["secretAsVolume"][0]["secretName"] == "key"


@pytest.mark.parametrize("name", PIPELINES)
def test_no_task_is_answered_from_the_cache(name: str, compiled: dict[str, Any]) -> None:
    spec = compiled[name][0]
    for task_name, task in tasks(spec):
        component = spec["components"][task["componentRef"]["name"]]
        if "executorLabel" in component and component["executorLabel"] in executors(compiled[name])[0]:
            assert not task["cachingOptions"].get("enableCache", False), task_name


@pytest.mark.parametrize("name", PIPELINES)
def test_every_step_knows_its_run(name: str, compiled: dict[str, Any]) -> None:
    for task_name, task in tasks(compiled[name][0]):
        parameters = task.get("inputs", {}).get("parameters", {})
        if "run" in parameters:
            assert parameters["run"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}", task_name


@pytest.mark.parametrize("name", PIPELINES)
def test_every_condition_has_its_else(name: str, compiled: dict[str, Any]) -> None:
    check_branches(compiled[name][0])
    conditions = [task for _, task in tasks(compiled[name][0]) if task.get("triggerPolicy", {}).get("condition")]
    assert len(conditions) in ((0,) if name == SCORING else (2, 4))


def test_a_lone_if_is_refused() -> None:
    @dsl.pipeline
    def lonely(policy: str):
        gated = stub("gate")(evidence=stub("import_model")(uri="", run="").output, policy=policy, target="", run="")
        with dsl.If(gated.outputs["Output"] == "promote"):
            stub("withhold")(decision=gated.outputs["decision"], run="")

    with pytest.raises(UnfitInput, match="an If without an Else"):
        check_branches(pipeline_spec(lonely))


def test_a_loop_is_refused() -> None:
    @dsl.pipeline
    def loops(uri: str):
        with dsl.ParallelFor(["a", "b"]) as item:
            stub("import_model")(uri=item, run="")

    with pytest.raises(UnfitInput, match="a loop"):
        check_branches(pipeline_spec(loops))


@pytest.mark.parametrize("name", PIPELINES)
def test_the_run_form_is_described_and_filled_in(name: str, compiled: dict[str, Any]) -> None:
    parameters = compiled[name][0]["root"]["inputDefinitions"]["parameters"]
    for parameter, body in parameters.items():
        assert body["parameterType"] == "STRING", parameter
        assert len(body["description"]) > 20, parameter
    if name != SCORING:
        assert parameters["target"]["defaultValue"] == '{"alias":"champion","model":"tiny"}'
    open_ended = {parameter for parameter, body in parameters.items() if "defaultValue" not in body}
    assert open_ended == {
        "retrain_on_drift": {"reference", "current"},
        "respond_to_incident": {"ref", "reason"},
        "evaluate_and_promote": {"model"},
        SCORING: set(parameters),
    }.get(name, set())


def test_without_a_configuration_sources_and_policy_are_left_to_the_form() -> None:
    spec = parsed(compile_pipeline("robust_training", None).yaml)[0]
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    assert {name for name, body in parameters.items() if "defaultValue" not in body} == {"sources", "policy"}


@pytest.mark.parametrize("name", PIPELINES)
def test_pods_install_nothing_and_use_the_one_image(
    name: str, compiled: dict[str, Any], texts: dict[str, bytes]
) -> None:
    assert b"pip install" not in texts[name]
    containers, _ = executors(compiled[name])
    assert {body["image"] for body in containers.values()} == {RESOURCES.image}
    for body in containers.values():
        assert {"name": "MLFLOW_TRACKING_URI", "value": "http://mlflow:5000"} in body["env"]


def test_a_secret_goes_only_to_the_steps_that_are_named(compiled: dict[str, Any]) -> None:
    _, placed = executors(compiled["robust_training"])
    with_key = {executor for executor, body in placed.items() if "secretAsVolume" in body}
    assert with_key == {"exec-promote"}
    assert all(body["secretAsEnv"][0]["keyToEnv"][0]["envVar"] == "AWS_ACCESS_KEY_ID" for body in placed.values())


@pytest.mark.parametrize("name", ONE_FAST)
def test_equal_configurations_compile_to_equal_bytes(name: str, config: Config, texts: dict[str, bytes]) -> None:
    assert compile_pipeline(name, copy.deepcopy(config)).yaml == texts[name]


def test_an_unknown_pipeline_names_the_nearest() -> None:
    with pytest.raises(UnknownName) as raised:
        load("robust_trainig", Resources())
    assert raised.value.close == "robust_training"


def test_an_unknown_parameter_names_the_nearest(config: Config) -> None:
    with pytest.raises(UnknownName) as raised:
        compile_pipeline("evaluate_and_promote", config, {"modle": "s3://b/m"})
    assert raised.value.close == "model"


def test_components_compile_to_component_yaml(tmp_path: Path) -> None:
    paths = compile_components(tmp_path)
    assert {path.parent.name for path in paths} == set(STEPS)
    for path in paths:
        document = parsed(path.read_bytes())[0]
        assert document["pipelineInfo"]["name"] == path.parent.name.replace("_", "-")
        assert "pip install" not in path.read_text()
