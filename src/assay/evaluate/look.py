"""Everything that is measured beside robustness: the configured aspects, on all records of the hold-out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from assay import catalog
from assay.errors import UnknownName
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


def aspects(given: Mapping[str, Mapping[str, Any]], sets: Iterable[str] = ()) -> dict[str, Aspect]:
    """The configured aspects.

    Args:
        given: settings by name.
        sets: names of the evaluation sets there are, for which aspects ask by ``fit_on``, ``sets`` or ``names``.

    Raises:
        UnknownName: no such aspect, setting or evaluation set.
        UnfitInput: a setting that the aspect refuses.
    """
    built: dict[str, Aspect] = {name: catalog.build(FAMILY, name, settings) for name, settings in given.items()}
    known = set(sets)
    for aspect in built.values():
        asked = {getattr(aspect, "fit_on", "") or None, *getattr(aspect, "sets", ()), *getattr(aspect, "names", ())}
        for name in sorted(asked - {None} - known):
            raise UnknownName("evaluation set", name, known)
    return built


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
