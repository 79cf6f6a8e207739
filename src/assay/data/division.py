"""What a step says of a dataset that it divided: the part that goes on, and the part set aside."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from assay.data.manifest import Manifest

__all__ = ["division"]


def division(kept: Manifest, kept_path: Path, quarantined: Manifest, quarantine_path: Path) -> dict[str, Any]:
    """The part of a step's document that scripts rely on: dataset, quarantine, kept, quarantined, reasons."""
    reasons: Counter[str] = Counter()
    for by_reason in kept.history.removed.values():
        reasons.update(by_reason)
    return {
        "dataset": _facts(kept, kept_path),
        "quarantine": _facts(quarantined, quarantine_path),
        "kept": kept.content.records,
        "quarantined": quarantined.content.records,
        "reasons": dict(sorted(reasons.items())),
    }


def _facts(manifest: Manifest, path: Path) -> dict[str, str]:
    return {"path": str(path), "digest": manifest.digest, "content_digest": manifest.content_digest}
