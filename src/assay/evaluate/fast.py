"""The same network for less work, to search with; what is found counts only when the network itself agrees."""

from __future__ import annotations

import copy
from contextlib import suppress

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CHUNK_BYTES = 2**21
CHUNK_RECORDS = 32, 128
"""Bytes of the largest activation of a pass, and least and most records of one: they fit into a core's cache."""

APART, APART_BFLOAT16 = 1e-3, 0.1

__all__ = ["Fast", "agreeing", "exact", "fast", "pays", "supports_bfloat16"]


class Fast(nn.Module):
    """A network that gives the same logits up to rounding, with the network itself beside it.

    Attributes:
        exact: the network as it was given; what counts is decided by it alone.
    """

    def __init__(self, model: nn.Module, quick: nn.Module, bfloat16: bool) -> None:
        super().__init__()
        self.exact, self.quick, self.half_precision = model, quick, bfloat16
        self._chunks: dict[torch.Size, int] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) of (N, ...)."""
        return torch.cat([self._part(part) for part in torch.split(x, self._chunk(x))]) if len(x) else self._part(x)

    def _chunk(self, x: torch.Tensor) -> int:
        """Records a pass, for inputs of this shape: a question of size alone, so the same on every machine."""
        shape = x.shape[1:]
        if shape not in self._chunks:
            largest = max(_activation_bytes(copy.deepcopy(self.quick), x[:1]), 1)  # a copy: other threads use this one
            self._chunks[shape] = min(max(CHUNK_BYTES // largest, CHUNK_RECORDS[0]), CHUNK_RECORDS[1])
        return self._chunks[shape]

    def _part(self, x: torch.Tensor) -> torch.Tensor:
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.half_precision):
            logits: torch.Tensor = self.quick(x)
        return logits.to(x.dtype)


def fast(model: nn.Module, *, bfloat16: bool = False) -> Fast:
    """A copy to attack: batch norms folded into the convolutions before them, channels last, weights frozen.

    Args:
        model: in eval mode; not modified, and shares no memory with the copy.
        bfloat16: compute products in bfloat16; only sensible where `supports_bfloat16`.

    A network that cannot be traced is copied as it is.
    """
    quick = copy.deepcopy(model).eval().requires_grad_(False)
    with suppress(fx.proxy.TraceError, TypeError, ValueError, RuntimeError):  # what depends on the data has no trace
        quick = _folded(fx.symbolic_trace(quick))
    if pays(quick):
        quick = quick.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    return Fast(model, quick, bfloat16).eval()


def agreeing(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """The fast network where its logits on these records are those of the exact one up to rounding, else the exact one.

    A network whose Python code looks at more than its input has a trace that is another network.
    """
    judge = exact(model)
    if judge is model or not len(x):
        return model
    with torch.no_grad():
        quick, sure = model(x), judge(x)
    half = any(getattr(module, "half_precision", False) for module in model.modules())
    apart = (quick - sure).abs().amax(1) / torch.nan_to_num(sure).abs().amax(1).clamp_min(1)
    return model if bool((apart <= (APART_BFLOAT16 if half else APART)).all()) else judge


def exact(model: nn.Module) -> nn.Module:
    """The network that decides: the one behind a fast one, or the model itself."""
    found: nn.Module = getattr(model, "exact", model)
    return found


def pays(model: nn.Module) -> bool:
    """Whether a fast copy is faster: of a network that convolves."""
    return any(isinstance(module, nn.Conv2d) for module in model.modules())


def supports_bfloat16() -> bool:
    """Whether this CPU multiplies in bfloat16; where it does not, bfloat16 is slower than float32."""
    known = torch.cpu.get_capabilities()
    return any(bool(known.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _activation_bytes(model: nn.Module, x: torch.Tensor) -> int:
    """Of the largest tensor that a module of the network gives for one record."""
    sizes = [0]

    def seen(_module: nn.Module, _given: object, found: object) -> None:
        if isinstance(found, torch.Tensor):
            sizes.append(found.nbytes)

    hooks = [module.register_forward_hook(seen) for module in model.modules()]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes)


def _folded(traced: fx.GraphModule) -> nn.Module:
    """Each batch norm folded into the convolution that alone feeds it, and fed nothing else."""
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        before = node.args[0]
        if before.op != "call_module" or not isinstance(modules[before.target], nn.Conv2d) or len(before.users) > 1:
            continue
        if sum(other.target in (before.target, node.target) for other in traced.graph.nodes) > 2:
            continue  # a module that is called twice
        parent, _, name = str(before.target).rpartition(".")
        setattr(traced.get_submodule(parent), name, fuse_conv_bn_eval(modules[before.target], modules[node.target]))
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.recompile()
    return traced.requires_grad_(False)
