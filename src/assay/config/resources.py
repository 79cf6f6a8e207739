"""Where steps run on a cluster: GPUs, nodes, memory, secrets, and the one image."""

from __future__ import annotations

from typing import Literal

import pydantic

from assay import __version__
from assay.config.base import Section

__all__ = ["Placement", "Resources", "Secret", "Toleration"]


class Toleration(Section):
    """A taint that a step's pod tolerates."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class Secret(Section):
    """A Kubernetes secret as environment variables: secret key to variable."""

    name: str
    env: dict[str, str] = pydantic.Field(min_length=1)


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
    cpu: str = ""
    memory: str = ""
    shared_memory: str = "1Gi"


class Resources(Section):
    """Placement of all steps.

    Fields:
        image: the one image of all steps, by tag or digest.
        default: of the steps that need no GPU.
        gpu: of train and evaluate.
        runtime_node_selector: also offer the node selector of the GPU steps as a run parameter (JSON), which then
            takes precedence.
        secrets: environment of every step.
        image_pull_secrets: names.
    """

    image: str = f"ghcr.io/assay/assay-python:{__version__}"
    default: Placement = Placement()
    gpu: Placement = Placement(
        gpu_count=1,
        node_selector={"nvidia.com/gpu.present": "true"},
        tolerations=(Toleration(key="nvidia.com/gpu", effect="NoSchedule"),),
        shared_memory="8Gi",
    )
    runtime_node_selector: bool = False
    secrets: tuple[Secret, ...] = ()
    image_pull_secrets: tuple[str, ...] = ()
