"""Records that left: why, and what they hold. `assay.release` is their way back, `assay.purge` their end.

Nothing is deleted. kept + quarantined = input as record ids, so putting all of a quarantine back gives a dataset with
the content digest of the step's input.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from assay import canonical
from assay.data import records
from assay.data.dataset import Dataset
from assay.data.findings import REMOVING, Finding, read_findings
from assay.errors import UnfitInput
from assay.quarantine_seal import REJECTED

MAX_SHOWN_BYTES = 200
PURGED = "purged.dsse.json"

__all__ = ["PURGED", "Quarantine", "facts", "show", "summary"]


@dataclass(frozen=True)
class Quarantine:
    """A quarantine folder, every byte of it checked.

    Fields:
        dataset: the records that left.
        findings: why, with those that only flag a record.
        raw: rows that no schema could hold, as `assay.ingest` wrote them: batch, row, line, reason, bytes.
        rejected: batches that did not come in: batch, check, reason, files.
    """

    dataset: Dataset
    findings: tuple[Finding, ...]
    raw: tuple[dict[str, Any], ...] = ()
    rejected: tuple[dict[str, Any], ...] = ()

    @classmethod
    def load(cls, path: Path | str) -> Quarantine:
        """Read a quarantine folder.

        Raises:
            UnfitInput: no such folder, no quarantine, one that was purged, or findings, raw rows or rejected batches
                that differ from the manifest.
        """
        folder = Path(path)
        if (folder / PURGED).is_file():
            raise UnfitInput(str(folder), "a quarantine that was purged", "one with its records", f"See {PURGED}.")
        dataset = Dataset.load(folder)
        history = dataset.manifest.history
        if history.role != "quarantine":
            raise UnfitInput(str(folder), f"a dataset of role {history.role!r}", "a quarantine")
        findings = read_findings(_checked(folder / "findings.parquet", history.findings), str(folder))
        raw = _lines(folder / "raw.jsonl", history.parameters.get("raw", ""))
        return cls(dataset, tuple(findings), raw, _lines(folder / REJECTED, history.parameters.get("rejected", "")))

    @property
    def removing(self) -> list[Finding]:
        """The findings that took a record out."""
        return [finding for finding in self.findings if finding.action in REMOVING]


def summary(path: Path | str) -> dict[str, Any]:
    """What a quarantine holds, as ``assay quarantine list`` prints it."""
    if _only_rejected(path):
        nothing: dict[str, Any] = {"dataset": None, "records": 0, "raw": 0, "reasons": {}, "sources": {}}
        return nothing | {"rejected": list(_lines(Path(path) / REJECTED))}
    held = Quarantine.load(path)
    return {
        "dataset": facts(held.dataset, path),
        "records": len(held.dataset),
        "raw": len(held.raw),
        "reasons": dict(sorted(Counter(finding.reason for finding in held.removing).items())),
        "sources": _by_source(held.removing),
        "rejected": list(held.rejected),
    }


def show(path: Path | str, ids: Sequence[str] = (), reason: str = "", limit: int = 20) -> dict[str, Any]:
    """Records of a quarantine with their findings and cells, images as their shape.

    Args:
        path: of the quarantine.
        ids: which; empty for all.
        reason: only those with this reason; empty for any.
        limit: how many at most.

    Returns:
        ``records``, ``shown`` and ``matching`` counts, and ``rejected``: the batches that did not come in.

    Raises:
        UnfitInput: an id that is not in the quarantine.
    """
    if _only_rejected(path):
        if ids:
            raise UnfitInput("record id", ids[0], "none: this quarantine holds rejected batches only")
        return {"records": [], "shown": 0, "matching": 0, "rejected": list(_lines(Path(path) / REJECTED))}
    held = Quarantine.load(path)
    raw = {f"{row['batch']}:{row['row']}": row for row in held.raw}
    known = [*held.dataset.record_ids, *raw]
    absent = next((name for name in ids if name not in set(known)), None)
    if absent is not None:
        raise UnfitInput("record id", absent, "a record of this quarantine")
    why: dict[str, list[Finding]] = {}
    for finding in held.findings:
        why.setdefault(finding.record_id, []).append(finding)
    wanted = [name for name in (ids or known) if not reason or reason in {it.reason for it in why.get(name, ())}]
    entries = []
    for name in wanted[:limit]:
        findings = [{key: value for key, value in asdict(it).items() if key != "record_id"} for it in why.get(name, ())]
        cells = {"raw": _raw_cell(raw[name])} if name in raw else {"cells": _cells(held.dataset, name)}
        entries.append({"record_id": name, "findings": findings, **cells})
    return {"records": entries, "shown": len(entries), "matching": len(wanted), "rejected": list(held.rejected)}


def _checked(path: Path, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnfitInput(str(path), error.strerror or str(error), "a readable file") from error
    if sha256 and canonical.sha256(data) != sha256:
        raise UnfitInput(str(path), f"SHA-256 {canonical.sha256(data)[:12]}", f"that of the manifest, {sha256[:12]}")
    return data


def _lines(path: Path, sha256: str | None = None) -> tuple[dict[str, Any], ...]:
    """The documents of a file of JSON lines; none where the manifest names none."""
    lines = _checked(path, sha256 or "").splitlines() if sha256 != "" else []
    return tuple(canonical.loads(line, str(path)) for line in lines)


def _only_rejected(path: Path | str) -> bool:
    """Whether nothing came in: such a quarantine has no records, and no manifest."""
    return (Path(path) / REJECTED).is_file() and not (Path(path) / "manifest.json").exists()


def _by_source(findings: Sequence[Finding]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for finding in findings:
        counts.setdefault(records.RecordId.parse(finding.record_id).source, Counter())[finding.reason] += 1
    return {source: dict(sorted(by_reason.items())) for source, by_reason in sorted(counts.items())}


def _cells(dataset: Dataset, name: str) -> dict[str, Any]:
    row = dataset.table.slice(int(records.rows_of(dataset.table, [name])[0]), 1)
    value, classes = row["label"][0].as_py(), dataset.manifest.content.classes
    label = classes[value] if classes else value
    return dict(_plain_cells(row, dataset.feature_names)) | {"label": label}


def _plain_cells(row: pa.Table, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for name in names:
        kind = row[name].type
        if isinstance(kind, pa.FixedShapeTensorType):
            yield name, f"tensor of shape {tuple(kind.shape)}"
        else:
            value = row[name][0].as_py()
            yield name, value if value is None or isinstance(value, bool | int | str) else _number(value)


def _number(value: Any) -> Any:
    """A finite float as it is; anything else as text, which JSON can hold."""
    return value if isinstance(value, float) and np.isfinite(value) else str(value)


def _raw_cell(row: dict[str, Any]) -> dict[str, Any]:
    data = base64.b64decode(row["bytes"])
    return {"line": row["line"], "bytes": len(data), "text": data[:MAX_SHOWN_BYTES].decode("utf-8", "backslashreplace")}


def facts(dataset: Dataset, path: Path | str) -> dict[str, str]:
    """A dataset as the documents of verbs name it: ``path``, ``digest``, ``content_digest``."""
    manifest = dataset.manifest
    return {"path": str(path), "digest": manifest.digest, "content_digest": manifest.content_digest}
