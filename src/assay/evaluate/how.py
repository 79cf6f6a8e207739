"""What evidence says of its own making: what any equal measurement would share, and what only this one was."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import torch

from assay import catalog, versions
from assay.config.evaluate import EvaluateConfig
from assay.evaluate.holdout import Holdout
from assay.evaluate.measure import Plan
from assay.evidence import Evidence

__all__ = ["Begun", "answer", "how"]


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


def how(config: EvaluateConfig, data: Holdout, plan: Plan) -> dict[str, Any]:
    """What every kind of model shares of everything that another measurement needs to give the same numbers."""
    return {
        "threats": {threat.key: threat.to_json() for threat in plan.threats},
        "primary": plan.threats[0].key,
        "attacks": {
            rung.name: catalog.settings(rung.attack) | ({"restarts": rung.restarts} if rung.restarts > 1 else {})
            for rung in plan.ladder
        },
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


def answer(path: object, made: Evidence, measured: int, of: int) -> dict[str, Any]:
    """What a step says of the evidence it wrote, from so many of the records."""
    return {
        "evidence": str(path),
        "evidence_id": made.id,
        "estimates": {name: estimate.to_json() for name, estimate in made.estimates.items()},
        "sound": made.sound,
        "soundness": made.soundness,
        "truncated": made.truncated,
        "records": {"measured": measured, "of": of},
    }
