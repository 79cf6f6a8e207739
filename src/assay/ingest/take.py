"""Takes batches in, or rejects them: where ``ingest.sources`` has rules, each is judged by itself.

Without rules the caller names every file, and one that is not fit stops the step. With rules batches come from
suppliers, and one supplier's fault, or attack, must not stop the others: a batch that its source may not contribute, or
that is not fit, is rejected with the check that refused it, and what was lawfully fetched of it is kept aside.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay import canonical
from assay.config.ingest import IngestConfig, SourceConfig
from assay.data.files import whole_folder
from assay.errors import Refused, UnfitInput
from assay.incidents import Incident, named_records, open_incidents, require_clear
from assay.ingest.admit import require_place, require_rule, require_trust, uploader
from assay.ingest.fetch import Fetched, bind, fetched, reader_of
from assay.ingest.join import require_labels, require_schema
from assay.ingest.spool import Spool
from assay.keyring import Keyring
from assay.ledger import Ledger
from assay.progress import track
from assay.quarantine_seal import ASIDE, REJECTED, seal_quarantine
from assay.workspace import Workspace

TRUST = ("trusted", "standard", "untrusted")

__all__ = ["Rejected", "Taken", "keep_aside", "rejected_bytes", "require_some", "take_all"]


@dataclass(frozen=True)
class Rejected:
    """A batch that did not come in.

    Fields:
        source: as configured.
        check: that refused it: ``source``, ``trust``, ``incident``, ``prefix``, ``fetch``, ``signature``, ``name`` or
            ``content``.
        reason: in words.
        batch: its files, or None when nothing was fetched.
    """

    source: SourceConfig
    check: str
    reason: str
    batch: Fetched | None = None

    @property
    def name(self) -> str:
        """``<source>/<batch>``."""
        return f"{self.source.name}/{self.source.batch_name}"

    def to_json(self) -> dict[str, Any]:
        """Plain data for canonical JSON; no path of this machine, so that equal rejections are equal bytes."""
        files = self.batch.document()["files"] if self.batch is not None else []
        return {"batch": self.name, "check": self.check, "reason": self.reason, "files": files}


Judged = tuple[Fetched, Spool] | Rejected


@dataclass(frozen=True)
class Taken:
    """Batches that came in, with the rows of each, those that did not, and the records that incidents are about."""

    batches: tuple[Fetched, ...]
    read: tuple[Spool, ...]
    rejected: tuple[Rejected, ...]
    named: frozenset[str] = frozenset()


def take_all(
    sources: Sequence[SourceConfig],
    config: IngestConfig,
    files: ExitStack,
    ledger: Ledger,
    keyring: Keyring,
    spool: Path,
) -> Taken:
    """Fetch, judge and read batches.

    Args:
        sources: one entry a batch, in order.
        config: of the step.
        files: holds what was fetched until it ends.
        ledger: says which batch names are bound to which bytes.
        keyring: of the workspace.
        spool: folder for the rows that were read.

    Raises:
        UnfitInput: a batch that is not fit, where there are no rules.
        Refused: a batch that an open incident is about, where there are no rules; an incident that cannot be verified.
        Conflict: a name bound to other bytes, where there are no rules.
        Unreachable: an object store does not answer; nobody is rejected for that.
    """
    bound, incidents = set(ledger.names("batches/")), tuple(open_incidents(ledger, keyring))
    named = named_records(incidents)
    if not config.sources:
        for source in sources:
            require_clear(source.name, source.batch_name, incidents)
        batches = [files.enter_context(fetched(source, config.limits)) for source in sources]
        for batch in batches:
            _require_unbound(batch, bound, ledger)
        read = [_read(batch, config, spool) for batch in track(batches, "ingest", len(batches))]
        require_schema(read, read[0])
        return Taken(tuple(batches), tuple(read), (), named)
    judged = [
        _judge(source, config, files, ledger, bound, keyring, incidents, spool)
        for source in track(sources, "ingest", len(sources))
    ]
    judged = _alike(judged, config)
    good = [it for it in judged if not isinstance(it, Rejected)]
    return Taken(
        tuple(batch for batch, _ in good),
        tuple(rows for _, rows in good),
        tuple(it for it in judged if isinstance(it, Rejected)),
        named,
    )


def rejected_bytes(rejected: Sequence[Rejected]) -> bytes:
    """JSON lines of rejected batches."""
    return b"".join(canonical.dumps(it.to_json()) + b"\n" for it in rejected)


def keep_aside(folder: Path, rejected: Sequence[Rejected], workspace: Workspace) -> None:
    """Copy what was fetched of rejected batches below ``rejected/<source>/<batch>/``, and sign the whole quarantine.

    A file keeps its role as name.
    """
    for it in rejected:
        if it.batch is None:
            continue
        place = folder / ASIDE / it.source.name / it.source.batch_name
        place.mkdir(parents=True)
        for path, role in ((it.batch.delivery.path, "data"), (it.batch.delivery.labels, "labels")):
            if path is not None:
                (shutil.copytree if path.is_dir() else shutil.copyfile)(path, place / role)
        if it.batch.envelope is not None:
            (place / "signature.dsse.json").write_bytes(it.batch.envelope)
    seal_quarantine(folder, workspace)


def require_some(taken: Taken, quarantine: Path, workspace: Workspace, *, trusted: bool) -> None:
    """Stop when no batch, or no trusted one where one is needed, came in; what was rejected is kept aside first.

    Raises:
        Refused: names the first rejected batch and its reason.
    """
    enough = any(batch.source.trust == "trusted" for batch in taken.batches) if trusted else taken.batches
    if enough or not taken.rejected:
        return
    with whole_folder(quarantine) as folder:
        (folder / REJECTED).write_bytes(rejected_bytes(taken.rejected))
        keep_aside(folder, taken.rejected, workspace)
    first = taken.rejected[0]
    raise Refused(
        f"batch {first.name}: {first.check}",
        f"{first.reason} {len(taken.rejected)} batches were rejected",
        f"at least one{' of a trusted source' if trusted else ''} that its source may contribute",
        f"They are kept aside in {quarantine}.",
    )


def _judge(
    source: SourceConfig,
    config: IngestConfig,
    files: ExitStack,
    ledger: Ledger,
    bound: set[str],
    keyring: Keyring,
    incidents: Sequence[Incident],
    spool: Path,
) -> Judged:
    """One batch against the rule of its source; every check that says no is told apart."""
    check, batch = "source", None
    try:
        rule = require_rule(source, config.sources)
        check = "trust"
        source = source.model_copy(update={"trust": require_trust(source, rule)})
        check = "incident"
        require_clear(source.name, source.batch_name, incidents)
        check = "prefix"
        require_place(source, rule)
        check = "fetch"
        limits = rule.limits.within(config.limits)
        batch = files.enter_context(fetched(source, limits))
        check = "signature"
        batch = replace(batch, uploader=uploader(batch, rule, keyring))
        check = "name"
        _require_unbound(batch, bound, ledger)
        check = "content"
        return batch, _read(batch, config.model_copy(update={"limits": limits}), spool)
    except (UnfitInput, Refused) as error:
        return Rejected(source, check, _plain(str(error), batch), batch)


def _alike(judged: Sequence[Judged], config: IngestConfig) -> list[Judged]:
    """The batches, those rejected whose columns or labels do not fit the others'.

    The columns are those of the first batch of the highest trust, so that no supplier can have the others rejected.
    """
    read = [it for it in judged if not isinstance(it, Rejected)]
    if not read:
        return list(judged)
    reference = min(read, key=lambda it: TRUST.index(it[0].source.trust))[1]
    return [it if isinstance(it, Rejected) else _like(it, reference, config) for it in judged]


def _like(given: tuple[Fetched, Spool], reference: Spool, config: IngestConfig) -> Judged:
    batch, rows = given
    try:
        require_schema([rows], reference)
        if config.classes:
            require_labels(rows, config.classes)
    except UnfitInput as error:
        return Rejected(batch.source, "content", str(error), batch)
    return given


def _plain(reason: str, batch: Fetched | None) -> str:
    """The reason without the places that files were fetched to."""
    if batch is not None:
        for path, role in ((batch.delivery.path, "data"), (batch.delivery.labels, "labels")):
            reason = reason if path is None else reason.replace(str(path), role)
    return reason


def _require_unbound(batch: Fetched, bound: set[str], ledger: Ledger) -> None:
    """Find a conflict before a batch is parsed; `bind` finds those of a race."""
    if f"batches/{batch.delivery.name}.json" in bound:
        bind(ledger, [batch])


def _read(batch: Fetched, config: IngestConfig, spool: Path) -> Spool:
    chunks = reader_of(batch.source.uri).chunks(batch.delivery, config)
    rows = Spool(batch.delivery.name, spool / canonical.sha256(batch.delivery.name.encode()), chunks)
    batch.require_unchanged()
    return rows
