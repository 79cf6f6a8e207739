"""Where a task runs: image, GPU, node, memory, environment, secrets and user, from ``resources:`` of assay.yaml."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from kfp import dsl, kubernetes

from assay.config.resources import Placement, Resources, Secret, Toleration

NODE_SELECTOR = "gpu_node_selector"

__all__ = ["pipeline", "place"]


def place(task: dsl.PipelineTask, step: str, resources: Resources, node_selector: Any | None = None) -> Any:
    """Put one task where its step belongs, and keep it out of KFP's cache.

    The cache's key holds no content: neither the code behind the image's tag nor the bytes behind a URI. And a step
    answered from the cache would be missing from the lineage of its run. So every step always runs.

    Args:
        task: the task, changed in place.
        step: the step's name, a folder of components.
        resources: placement of all steps.
        node_selector: the run parameter that overrides the node selector of GPU steps, when the pipeline offers it.

    Returns:
        The task.
    """
    on_gpu = step in resources.gpu_steps
    placement = resources.gpu if on_gpu else resources.default
    task.set_container_image(resources.image)
    task.set_caching_options(False)
    _compute(task, placement)
    _nodes(task, placement, node_selector if on_gpu else None)
    for name, value in resources.environment.items():
        task.set_env_variable(name, value)
    for secret in resources.secrets:
        if not secret.steps or step in secret.steps:
            _secret(task, secret)
    if resources.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(resources.image_pull_secrets))
    kubernetes.add_pod_label(task, "app.kubernetes.io/part-of", "assay")
    kubernetes.add_pod_label(task, "app.kubernetes.io/component", step)
    user = resources.run_as_user
    kubernetes.set_security_context(task, run_as_user=user, run_as_group=user, run_as_non_root=True)
    return task


def pipeline(resources: Resources) -> Callable[[Callable[..., Any]], Any]:
    """Make a KFP pipeline of a function; its parameter ``gpu_node_selector`` stays only where resources offer it."""

    def make(function: Callable[..., Any]) -> Any:
        return dsl.pipeline(function if resources.runtime_node_selector else _without(function, NODE_SELECTOR))

    return make


def _without(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function less one parameter, for which it is then given None."""
    signature = inspect.signature(function)
    kept = [parameter for parameter in signature.parameters.values() if parameter.name != name]

    @functools.wraps(function)
    def less(*arguments: Any) -> Any:
        return function(*arguments, **{name: None})

    less.__signature__ = signature.replace(parameters=kept)
    return less


def _compute(task: dsl.PipelineTask, placement: Placement) -> None:
    if placement.gpu_count:
        task.set_accelerator_type(placement.gpu_type).set_accelerator_limit(placement.gpu_count)
    if placement.cpu:
        task.set_cpu_request(placement.cpu).set_cpu_limit(placement.cpu)
    if placement.memory:
        task.set_memory_request(placement.memory).set_memory_limit(placement.memory)
    kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory", size_limit=placement.shared_memory)


def _nodes(task: dsl.PipelineTask, placement: Placement, node_selector: Any | None) -> None:
    if node_selector is not None:
        kubernetes.add_node_selector_json(task, node_selector)
    else:
        for label, value in placement.node_selector.items():
            kubernetes.add_node_selector(task, label, value)
    for toleration in placement.tolerations:
        kubernetes.add_toleration(task, **_as_keywords(toleration))


def _as_keywords(toleration: Toleration) -> dict[str, str]:
    return {name: value for name, value in toleration.to_json().items() if value}


def _secret(task: dsl.PipelineTask, secret: Secret) -> None:
    if secret.env:
        kubernetes.use_secret_as_env(task, secret.name, dict(secret.env))
    if secret.mount:
        kubernetes.use_secret_as_volume(task, secret.name, mount_path=secret.mount)
