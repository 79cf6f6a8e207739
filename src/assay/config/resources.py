"""Where steps run on a cluster: GPUs, nodes, memory, environment, secrets, and the one image."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import pydantic

from assay import __version__
from assay.config.base import Section

Step = Literal[
    "ingest",
    "sanitize",
    "filter_poison",
    "score_features",
    "train",
    "evaluate",
    "gate",
    "report",
    "promote",
    "withhold",
    "monitor",
    "record_action",
    "contain",
    "import_model",
]
Quantity = Annotated[str, pydantic.Field(pattern=r"^([0-9]+(\.[0-9]+)?([EPTGMk]i?|m)?)?$")]
ObjectName = Annotated[str, pydantic.Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
Variable = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

__all__ = ["DEFAULT_IMAGE", "Placement", "Resources", "Secret", "Step", "Toleration"]

DEFAULT_IMAGE = f"ghcr.io/assay/assay-python:{__version__}"


class Toleration(Section):
    """A taint that a step's pod tolerates; an empty effect or key means every one."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""

    @pydantic.model_validator(mode="after")
    def _as_kubernetes_takes_it(self) -> Toleration:
        if self.operator == "Exists" and self.value:
            raise ValueError("no value beside operator Exists")
        if self.operator == "Equal" and not self.key:
            raise ValueError("a key beside operator Equal")
        return self


class Secret(Section):
    """A Kubernetes secret, as environment variables, as files, or both.

    Fields:
        name: of the secret.
        env: secret key to environment variable.
        mount: folder in which its keys appear as files, or empty.
        steps: the steps that get it; empty means all. The evaluator's key belongs to evaluate, gate and contain, the
            promoter's key to promote alone.
    """

    name: ObjectName
    env: dict[str, Variable] = pydantic.Field(default_factory=dict)
    mount: str = pydantic.Field(default="", pattern=r"^(/[^/]+)*$")
    steps: tuple[Step, ...] = ()

    @pydantic.model_validator(mode="after")
    def _is_used(self) -> Secret:
        if not (self.env or self.mount):
            raise ValueError("env, mount, or both")
        return self


class Placement(Section):
    """What one kind of step asks of a node.

    Fields:
        gpu_count: 0 for none.
        gpu_type: resource name of the accelerator.
        node_selector: labels a node must have.
        tolerations: taints it may have.
        cpu, memory: request and limit, Kubernetes quantities, or empty.
        shared_memory: size of the memory-backed /dev/shm.
    """

    gpu_count: int = pydantic.Field(default=0, ge=0)
    gpu_type: str = "nvidia.com/gpu"
    node_selector: dict[str, str] = pydantic.Field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    cpu: Quantity = ""
    memory: Quantity = ""
    shared_memory: Quantity = pydantic.Field(default="1Gi", min_length=1)


class Resources(Section):
    """Placement of all steps.

    Fields:
        image: the one image of all steps, by tag or digest; the default follows ``ASSAY_IMAGE``.
        default: of the steps that need no GPU.
        gpu: of those that use one.
        gpu_steps: which these are; filter_poison has networks of its own that gain from one.
        runtime_node_selector: also offer the node selector of train and evaluate as a run parameter (JSON), which
            then takes precedence.
        environment: variables of every step, such as ``ASSAY_LEDGER`` and ``MLFLOW_TRACKING_URI``.
        secrets: see each.
        image_pull_secrets: names.
        evaluate_shards: how many nodes share the attacks of evaluate, each as ``gpu`` says; the evidence is that of
            one. On one machine it is always one.
        score_shards: how many nodes share the sums of score_features, each as ``default`` says; likewise.
        run_as_user: numeric user and group of every step's container.
    """

    image: str = pydantic.Field(default_factory=lambda: os.environ.get("ASSAY_IMAGE") or DEFAULT_IMAGE, min_length=1)
    default: Placement = Placement()
    gpu: Placement = Placement(
        gpu_count=1,
        node_selector={"nvidia.com/gpu.present": "true"},
        tolerations=(Toleration(key="nvidia.com/gpu", effect="NoSchedule"),),
        shared_memory="8Gi",
    )
    gpu_steps: tuple[Step, ...] = ("train", "evaluate")
    runtime_node_selector: bool = False
    environment: dict[Variable, str] = pydantic.Field(default_factory=dict)
    secrets: tuple[Secret, ...] = ()
    image_pull_secrets: tuple[ObjectName, ...] = ()
    run_as_user: int = pydantic.Field(default=10001, ge=1)
    evaluate_shards: int = pydantic.Field(default=1, ge=1, le=1000)
    score_shards: int = pydantic.Field(default=1, ge=1, le=1000)
