"""What evidence says of its own making: what any equal measurement would share, and what only this one was."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import torch

from assay import versions
from assay.config.evaluate import EvaluateConfig
from assay.evaluate.holdout import Holdout
from assay.evidence import Evidence
from assay.models.folder import LoadedModel
from assay.models.spec import Trained
from assay.threat import ThreatModel

__all__ = ["Begun", "Planned", "answer", "how", "subjects", "trained_against"]


class Planned(Protocol):
    """What every plan says of itself."""

    @property
    def threats(self) -> tuple[ThreatModel, ...]:
        """The first is the primary one."""
        ...

    @property
    def block_records(self) -> int:
        """Size of a block."""
        ...

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """Every attack with all of its fields, by name."""
        ...


@dataclass(frozen=True)
class Begun:
    """The instant a measurement began, by the calendar and by a clock that nobody sets.

    Fields:
        started, clock: now.
        ended: the instant from which its age counts, where that is not when it is written down.
    """

    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: float = field(default_factory=time.monotonic)
    ended: datetime | None = None

    def facts(self, run: str) -> dict[str, Any]:
        """The ``run`` object of evidence whose measurement ends now."""
        return {
            "run_id": run,
            "started": self.started.isoformat(timespec="seconds"),
            "ended": (self.ended or datetime.now(UTC)).isoformat(timespec="seconds"),
            "host": platform.node(),
            "seconds": round(time.monotonic() - self.clock, 3),
        }


def how(config: EvaluateConfig, data: Holdout, plan: Planned) -> dict[str, Any]:
    """What every kind of model shares of everything that another measurement needs to give the same numbers."""
    return {
        "threats": {threat.key: threat.to_json() for threat in plan.threats},
        "primary": plan.threats[0].key,
        "attacks": plan.settings,
        "holdout_content": data.dataset.manifest.content_digest,
        "records": len(data.rows),
        "limit": config.limit,
        "block_records": plan.block_records,
        "seed": config.seed,
        "confidence": config.confidence,
        "threads": torch.get_num_threads(),
        "versions": versions.machine(),
        "code": versions.code_digest(),
        "image": versions.image(),
    }


def trained_against(trained: Trained) -> dict[str, Any]:
    """The threat and attack that a model met in training, as it says."""
    return {"method": trained.method, "threat": trained.threat, "attack": trained.config.get("method", {})}


def subjects(candidate: LoadedModel, data: Holdout, champion: str = "") -> dict[str, str]:
    """What the evidence is about: SHA-256 by name."""
    named = {
        "model": candidate.digest,
        "holdout": data.dataset.manifest.digest,
        "dataset": candidate.spec.trained.dataset,
        "champion": champion,
    }
    return {name: digest for name, digest in named.items() if digest}


def answer(path: object, made: Evidence, of: int) -> dict[str, Any]:
    """What a step says of the evidence it wrote; ``of`` so many records it measured all or the first."""
    return {
        "evidence": str(path),
        "evidence_id": made.id,
        "estimates": {name: estimate.to_json() for name, estimate in made.estimates.items()},
        "sound": made.sound,
        "soundness": made.soundness,
        "truncated": made.truncated,
        "records": {"measured": made.measured["records"], "of": of},
    }
