"""What a report is made from: the files of one run, each of which may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from assay import canonical
from assay.errors import UnfitInput, UnknownName
from assay.estimate import Estimate

# where a run of robust_training keeps each file: task and output
TASKS = {
    "dataset": ("ingest", "dataset"),
    "ingest_quarantine": ("ingest", "quarantine"),
    "kept": ("sanitize", "kept"),
    "sanitize_quarantine": ("sanitize", "quarantine"),
    "filtered": ("filter-poison", "kept"),
    "filter_quarantine": ("filter-poison", "quarantine"),
    "scores": ("filter-poison", "scores"),
    "evidence": ("evaluate", "evidence"),
    "outcomes": ("evaluate", "outcomes"),
    "decision": ("gate", "decision"),
    "promotion": ("promote", "promotion"),
}

__all__ = ["TASKS", "ReportInputs", "read_estimates"]


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """Files of one run; what is None is reported as not measured.

    Fields:
        dataset, ingest_quarantine: dataset folders written by ingest.
        kept, sanitize_quarantine: by sanitize.
        filtered, filter_quarantine, scores: by the poison filter; ``scores`` is a Parquet file.
        evidence, outcomes: by evaluate, an envelope and a Parquet file.
        decision: by gate, an envelope.
        promotion: by promote, an envelope.
        extra: further estimates, such as ``backdoor_success_unfiltered`` of a model trained without the filter.
    """

    dataset: Path | None = None
    ingest_quarantine: Path | None = None
    kept: Path | None = None
    sanitize_quarantine: Path | None = None
    filtered: Path | None = None
    filter_quarantine: Path | None = None
    scores: Path | None = None
    evidence: Path | None = None
    outcomes: Path | None = None
    decision: Path | None = None
    promotion: Path | None = None
    extra: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def places(self) -> dict[str, Path]:
        """The paths that are given, by field name."""
        given = {known.name: getattr(self, known.name) for known in fields(self) if known.name != "extra"}
        return {name: place for name, place in given.items() if place is not None}

    @classmethod
    def of(cls, places: Mapping[str, Path | str], extra: Mapping[str, Estimate] | None = None) -> ReportInputs:
        """Inputs from places by field name.

        Raises:
            UnknownName: no such field.
        """
        known = [known.name for known in fields(cls) if known.name != "extra"]
        unknown = next((name for name in places if name not in known), None)
        if unknown is not None:
            raise UnknownName("report input", unknown, known)
        return cls(**{name: Path(place) for name, place in places.items()}, extra=dict(extra or {}))

    @classmethod
    def found(
        cls, outputs: Mapping[tuple[str, str], Path], extra: Mapping[str, Estimate] | None = None
    ) -> ReportInputs:
        """Inputs from the outputs of a run by task and output name."""
        return cls.of({name: outputs[key] for name, key in TASKS.items() if key in outputs}, extra)

    @classmethod
    def in_folder(cls, folder: Path, extra: Mapping[str, Estimate] | None = None) -> ReportInputs:
        """Inputs from a run's folder: ``.../<task>/<output>``, at any depth, each at most once.

        Raises:
            UnfitInput: no such folder, nothing of a run in it, or two outputs of one name.
        """
        if not folder.is_dir():
            raise UnfitInput(str(folder), "no folder", "the folder of a run")
        places: dict[str, Path] = {}
        for name, (task, output) in TASKS.items():
            there = sorted(folder.rglob(f"{task}/{output}"))
            if len(there) > 1:
                raise UnfitInput(str(folder), f"{len(there)} outputs {task}/{output}", "one", "Name one run's folder.")
            if there:
                places[name] = there[0]
        if not places:
            raise UnfitInput(str(folder), "no output of a run", "outputs such as gate/decision")
        return cls.of(places, extra)


def read_estimates(path: Path) -> dict[str, Estimate]:
    """Estimates by name from a JSON file.

    Raises:
        UnfitInput: no such file, or anything but an object of estimates.
    """
    document = canonical.read(path)
    if not isinstance(document, dict):
        raise UnfitInput(str(path), type(document).__name__, "an object of estimates by name")
    return {name: Estimate.from_json(value) for name, value in document.items()}
