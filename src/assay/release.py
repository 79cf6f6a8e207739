"""The way back out of quarantine: records join the kept ones in a new dataset.

Two questions come first: is the quarantine the one that was signed, and is an open incident about any of the records?
An exception from either has a reason, which the manifest of the result keeps; one from an incident is signed, too. What
is released in spite of an incident stays named by it: gate and promote refuse the models that learn from it until the
incident is closed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from assay import canonical, lineage, versions
from assay.data import records
from assay.data.dataset import Dataset, concat
from assay.data.findings import restored
from assay.data.manifest import History
from assay.errors import Refused, UnfitInput
from assay.incidents import about_records
from assay.ledger import put_first
from assay.quarantine import Quarantine, facts
from assay.quarantine_seal import KIND, ROLE, SIGNATURE, require_sealed
from assay.signing import seal, statement
from assay.workspace import Workspace

LEAST_DIGITS = 12

__all__ = ["release"]


def release(
    quarantine: Path,
    kept: Path,
    out: Path,
    *,
    ids: Sequence[str] | None = None,
    override: Sequence[str] = (),
    reason: str = "",
    allow_unsigned: bool = False,
    run: str = "",
) -> dict[str, Any]:
    """Join records of a quarantine with a kept dataset into a new dataset.

    Where the workspace's keyring lists a key of role custodian, the quarantine's signature has to hold.

    Args:
        quarantine: folder of the quarantine; stays as it is.
        kept: folder of the dataset they go back to; stays as it is.
        out: new folder.
        ids: which records; None for all.
        override: ids of open incidents, 12 digits or more, in spite of which their records come back.
        reason: why, for the signed statement of an override, and for ``allow_unsigned``.
        allow_unsigned: take a quarantine that nobody signed; a signature that does not hold is refused all the same.
        run: id of the pipeline run.

    Returns:
        The document of ``assay quarantine release``.

    Raises:
        UnfitInput: an id that is not there or was refused raw, a record that is in both, another schema, or an override
            of no incident, without a reason, or without a key to sign it.
        Refused: a quarantine whose signature does not hold, or a record that an open incident is, or may be, about.
        Unreachable: the ledger does not answer.
    """
    with lineage.step("release", run) as record:
        held, base = Quarantine.load(quarantine), Dataset.load(kept)
        record.uses(base, "training")
        record.uses(held.dataset, "quarantine")
        chosen = held.dataset.record_ids if ids is None else sorted(set(ids))
        if not chosen:
            raise UnfitInput("release", "no record", "at least one", f"{len(held.raw)} rows are kept raw only.")
        places = records.rows_of(held.dataset.table, chosen)
        if allow_unsigned or override:
            _require_reason(reason)
        unsigned = _require_authentic(quarantine, record.workspace, allow_unsigned)
        spite = _require_untouched(chosen, held.dataset.manifest.digest, record.workspace, override)
        parents = (base.manifest.digest, held.dataset.manifest.digest)
        history = History(
            step="release",
            role="kept",
            sources=_sources(base, held.dataset),
            parents=parents,
            parameters={"released": len(chosen), "records": canonical.digest(chosen)}
            | ({"overridden": spite, "reason": reason} if spite else {})
            | ({"unsigned": True, "reason": reason} if unsigned else {}),
            code=versions.code_digest(),
            image=versions.image(),
        )
        back = held.dataset.take(np.sort(places), history)
        joined = concat([base, back], history)
        if ids is None or len(chosen) == len(held.dataset):
            joined = _as_given(joined, held, history)
        if spite:
            _record_override(joined.manifest.digest, spite, reason, len(chosen), record.workspace)
        record.makes(joined, "training")
        joined.save(out)
        return {"dataset": facts(joined, out), "kept": len(joined), "released": len(chosen), "overridden": spite}


def _as_given(joined: Dataset, held: Quarantine, history: History) -> Dataset:
    """All records of the step's input with the weights, or without the weights, that it had."""
    said = held.dataset.manifest.history.parameters.get("weight")
    if said == "changed":
        return restored(joined, held.findings, history)
    if said == "added":
        return Dataset.make(joined.table.drop_columns(["weight"]), joined.manifest.content.classes, history)
    return joined


def _sources(*datasets: Dataset) -> tuple[Any, ...]:
    """The batches of all, each once."""
    shares = {(it.source, it.batch): it for dataset in datasets for it in dataset.manifest.history.sources}
    return tuple(shares[name] for name in sorted(shares))


def _require_reason(reason: str) -> None:
    """Refuse an exception that nobody gives a reason for."""
    if not reason.strip():
        raise UnfitInput("release: reason", "none", "why an exception is made", "Give --reason.")


def _require_authentic(folder: Path, workspace: Workspace, allow_unsigned: bool) -> bool:
    """Whether the quarantine is taken unsigned in spite of keys that could have signed it.

    Raises:
        Refused: no signature though there is a key of the role, or one that does not hold.
    """
    keyring = workspace.keyring
    signed = (folder / SIGNATURE).is_file()
    if not keyring.for_role(ROLE) or (allow_unsigned and not signed):
        return bool(keyring.for_role(ROLE))
    require_sealed(folder, keyring)
    return False


def _require_untouched(ids: Collection[str], dataset: str, workspace: Workspace, override: Sequence[str]) -> list[str]:
    """The overridden incidents that are about the records.

    Args:
        ids: of the records that would come back.
        dataset: manifest digest of the quarantine.
        workspace: whose ledger and keyring.
        override: ids of incidents, from 12 digits on.

    Raises:
        Refused: an open incident is, or may be, about a record, and is not overridden.
        UnfitInput: an override of an incident that is about none of the records.
    """
    short = next((given for given in override if len(given) < LEAST_DIGITS), None)
    if short is not None:
        raise UnfitInput("release: override", repr(short), f"the id of an incident, {LEAST_DIGITS} digits or more")
    found = []
    for incident, about in about_records(set(ids), dataset, workspace.ledger, workspace.keyring):
        if not any(incident.id.startswith(given) for given in override):
            raise Refused(
                "release",
                f"records that {incident} speaks of: {about}",
                "records that no open incident is about",
                f"Release others, close the incident, or give --override-incident {incident.id[:LEAST_DIGITS]}.",
            )
        found.append(incident.id)
    stray = next((given for given in override if not any(one.startswith(given) for one in found)), None)
    if stray is not None:
        raise UnfitInput("release: override", stray, "an open incident that is about one of these records")
    return sorted(found)


def _record_override(dataset: str, incidents: Sequence[str], reason: str, count: int, workspace: Workspace) -> str:
    """Sign what was released in spite of which incidents; returns the ledger name.

    Raises:
        UnfitInput: no key of role evaluator.
    """
    signers = workspace.signers("evaluator")
    if not signers:
        raise UnfitInput("key of role evaluator", "none", "one to sign the release", "assay init makes one.")
    subjects = {"dataset": dataset} | {f"incident/{name}": name for name in incidents}
    written = {"written_at": datetime.now(UTC).isoformat()}
    predicate = {"action": "release", "records": count, "reason": reason, "run": written}
    name = f"releases/{dataset}.dsse.json"
    put_first(workspace.ledger, name, seal(statement(KIND, subjects, predicate), signers))
    return name
