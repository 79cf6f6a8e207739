"""Everything that is measured beside robustness: the configured aspects, on all records of the hold-out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from assay import catalog
from assay.estimate import Estimate
from assay.evaluate.aspects.scene import Aspect, Found, Scene
from assay.evaluate.holdout import Holdout, unseen
from assay.ledger import Ledger
from assay.progress import track

FAMILY = "evaluate.aspects"

__all__ = ["Looked", "aspects", "look"]


@dataclass(frozen=True)
class Looked:
    """What the aspects found.

    Fields:
        estimates: of all aspects.
        checks: on the measurement itself; ``<set>_unseen`` of every set of other records.
        how: settings, facts, and which other records.
        sections: of the page, in the order of the configuration.
    """

    estimates: dict[str, Estimate]
    checks: dict[str, str]
    how: dict[str, Any]
    sections: list[Markup]


def aspects(given: Mapping[str, Mapping[str, Any]]) -> dict[str, Aspect]:
    """The configured aspects.

    Raises:
        UnknownName: no such aspect or setting.
        UnfitInput: a setting that the aspect refuses.
    """
    return {name: catalog.build(FAMILY, name, settings) for name, settings in given.items()}


def look(built: Mapping[str, Aspect], scene: Scene, ledger: Ledger) -> Looked:
    """Ask every aspect."""
    found = {name: aspect(scene) for name, aspect in track(built.items(), "measure", len(built))}
    trained = scene.spec.trained.dataset
    checks = {f"{name}_unseen": unseen(records, trained, ledger) for name, records in scene.sets.items()}
    how = {
        "aspects": {name: catalog.settings(aspect) | found[name].facts for name, aspect in built.items()},
        "sets": {name: _which(records) for name, records in scene.sets.items()},
    }
    return Looked(
        estimates={name: each for it in found.values() for name, each in it.estimates.items()},
        checks=checks | _checks(found),
        how=how,
        sections=[it.section for it in found.values()],
    )


def _checks(found: Mapping[str, Found]) -> dict[str, str]:
    return {name: said for it in found.values() for name, said in it.checks.items()}


def _which(records: Holdout) -> dict[str, Any]:
    manifest = records.dataset.manifest
    return {"manifest": manifest.digest, "content": manifest.content_digest, "records": len(records.rows)}
