"""Open incidents, and whether one of them reaches a batch or a model: asked wherever either is taken in.

``assay contain --apply`` signs an incident: what it is about (a record, batch, source, dataset, run, model) and the
models that had learned from it by then. A model trained later from the same records is reached too, though no incident
lists it: so its training data is followed back through the ledger's manifests. An incident is closed by whoever keeps
the key list, by revoking its payload there. Until then it counts, and one that cannot be verified counts as a question
that somebody has to answer, since it may be true.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assay import canonical
from assay.data.dataset import record_list_root
from assay.data.manifest import Manifest
from assay.data.parquet import table_in
from assay.data.records import RecordId
from assay.envelopes import open_any
from assay.errors import AssayError, Refused, UnfitInput
from assay.evidence import payload_id
from assay.keyring import Keyring
from assay.ledger import Ledger
from assay.signing import payload_digest, peek

__all__ = [
    "Charge",
    "Incident",
    "about_records",
    "against",
    "ancestry",
    "manifest_of",
    "named_records",
    "open_incidents",
    "require_clear",
    "require_unaffected",
]


@dataclass(frozen=True, kw_only=True)
class Incident:
    """An incident that is open.

    Fields:
        id: of its statement.
        ref: what it is about, ``<kind>:<name>``; empty for one that cannot be read.
        models: digests of the models it lists.
        verified: whether a signature that counts holds.
        fault: why it cannot be read, or an empty text.
    """

    id: str
    ref: str = ""
    models: frozenset[str] = frozenset()
    verified: bool = False
    fault: str = ""

    def __str__(self) -> str:
        return f"incident {self.id[:12]} ({self.ref or 'about what cannot be told'})"


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What one open incident has to do with a model.

    Fields:
        incident: its id.
        says: in one sentence.
        proven: its signature holds, and it surely speaks of the model or of records behind it.
    """

    incident: str
    says: str
    proven: bool


def open_incidents(ledger: Ledger, keyring: Keyring) -> Iterator[Incident]:
    """Every incident of a ledger whose payload the keyring does not revoke.

    Raises:
        Unreachable: the ledger does not answer.
    """
    for name in ledger.names("incidents/"):
        data, stem = ledger.get(name), name.rsplit("/", 1)[-1].partition(".")[0]
        try:
            if payload_digest(data, name) in keyring.revoked:
                continue
            document = peek(data, name)
            if payload_id(document) != stem:
                raise Refused(name, "a statement of another id", "the one its name says")
            models = frozenset(
                entry["digest"]["sha256"] for entry in document["subject"] if entry["name"].startswith("model/")
            )
            ref = str(document["predicate"]["ref"])
            if ref.startswith("record:"):
                RecordId.parse(ref.removeprefix("record:"))
            yield Incident(id=stem, ref=ref, models=models, verified=_verified(data, keyring, name))
        except (AssayError, KeyError, TypeError, AttributeError) as error:
            yield Incident(id=stem, fault=f"{type(error).__name__}: {error}")


def require_clear(source: str, batch: str, incidents: Iterable[Incident]) -> None:
    """Refuse a batch that an open incident is about, itself or through its source.

    Raises:
        Refused: names the incident; also one that cannot be read, since it may be about this batch.
    """
    for incident in incidents:
        if incident.fault or incident.ref in (f"source:{source}", f"batch:{source}/{batch}"):
            raise Refused(
                f"batch {source}/{batch}",
                f"one that {incident} {'may be' if incident.fault else 'is'} about {incident.fault}".rstrip(),
                "a batch that no open incident is about",
                "Leave it out; an incident is closed by revoking its payload in the key list.",
            )


def about_records(
    ids: Collection[str], dataset: str, ledger: Ledger, keyring: Keyring
) -> Iterator[tuple[Incident, str]]:
    """Every open incident that is, or may be, about some of a dataset's records, and what it speaks of.

    Args:
        ids: of the records.
        dataset: manifest digest of the dataset that holds them.
        ledger: holds incidents and manifests.
        keyring: a payload that it revokes is of a closed incident.

    Raises:
        Unreachable: the ledger does not answer.
    """
    batches = {name.rpartition(":")[0] for name in ids}
    within = {"record": ids, "batch": batches, "source": {name.partition("/")[0] for name in batches}}
    for incident in open_incidents(ledger, keyring):
        kind, _, name = incident.ref.partition(":")
        if incident.fault:
            yield incident, f"what cannot be told: {incident.fault}"
        elif kind in within:
            if name in within[kind]:
                yield incident, incident.ref
        else:
            behind = {dataset: manifest_of(ledger, dataset)}
            said = next(chain(_reached(incident, behind, ledger), _unknown(incident, behind, ledger)), "")
            if said:
                yield incident, said


def named_records(incidents: Iterable[Incident]) -> frozenset[str]:
    """The record ids that open incidents are about."""
    return frozenset(
        incident.ref.removeprefix("record:") for incident in incidents if incident.ref.startswith("record:")
    )


def require_unaffected(model: str, datasets: Iterable[str], ledger: Ledger, keyring: Keyring) -> None:
    """Refuse a model that an open incident reaches, or may reach.

    Args:
        model: digest of its folder.
        datasets: manifest digests of the records it learned from and was measured on.
        ledger: holds incidents and manifests.
        keyring: whose incidents count.

    Raises:
        Refused: an incident lists the model, or is about data that it learned from or was measured on, or that cannot
            be told.
    """
    for charge in against(ledger, keyring, model=model, datasets=datasets):
        raise Refused(
            f"model {model[:12]}",
            charge.says,
            "a model that no open incident reaches",
            "Train and measure without what it names; an incident is closed by revoking its payload in the key list.",
        )


def against(ledger: Ledger, keyring: Keyring, *, model: str, datasets: Iterable[str]) -> list[Charge]:
    """Every open incident that speaks of a model or of the records it learned from or was measured on.

    Args:
        ledger: with the incidents, manifests and lists of records.
        keyring: whose signatures count; a payload it revokes is of a closed incident.
        model: digest of the model folder.
        datasets: manifest digests of the records behind it. What was taken out before is not behind it.

    Raises:
        Refused: a manifest of the ledger that is not what its name says.
    """
    incidents = list(open_incidents(ledger, keyring))
    behind = {digest: manifest_of(ledger, digest) for digest in datasets} if incidents else {}
    found = (_charge(incident, ledger, model, behind) for incident in incidents)
    return [charge for charge in found if charge is not None]


def manifest_of(ledger: Ledger, digest: str) -> Manifest | None:
    """The manifest of a digest, or None where the ledger has none.

    Raises:
        Refused: other bytes under its name than the digest says.
    """
    name = f"manifests/{digest}.json"
    try:
        data = ledger.get(name)
    except UnfitInput:
        return None
    if canonical.sha256(data) != digest:
        raise Refused(f"ledger {name}", "bytes of another SHA-256", "the manifest it names")
    return Manifest.from_json(canonical.loads(data, name), name)


def ancestry(ledger: Ledger, digest: str) -> dict[str, Manifest | None]:
    """A dataset and all its ancestors, by manifest digest, the nearest first; None for one that the ledger lacks."""
    found: dict[str, Manifest | None] = {}
    waiting = [digest] if digest else []
    while waiting:
        digest = waiting.pop(0)
        if digest not in found:
            manifest = found[digest] = manifest_of(ledger, digest)
            waiting += manifest.history.parents if manifest else ()
    return found


def _verified(data: bytes, keyring: Keyring, name: str) -> bool:
    try:
        return open_any(data, keyring, name)[0] == "incident"
    except AssayError:
        return False


def _charge(incident: Incident, ledger: Ledger, model: str, behind: dict[str, Manifest | None]) -> Charge | None:
    if incident.fault:
        return Charge(incident=incident.id, says=f"{incident} cannot be read: {incident.fault}", proven=False)
    surely = f"the model {model[:12]}" if model in incident.models else next(_reached(incident, behind, ledger), "")
    said = surely or next(_unknown(incident, behind, ledger), "")
    if not said:
        return None
    told = "" if incident.verified else ", but its signature does not hold"
    return Charge(
        incident=incident.id, says=f"{incident} speaks of {said}{told}", proven=bool(surely) and incident.verified
    )


def _reached(incident: Incident, behind: dict[str, Manifest | None], ledger: Ledger) -> Iterator[str]:
    """What lies behind the model and in the scope of an incident."""
    kind, _, name = incident.ref.partition(":")
    made = _made_by(name, ledger) if kind == "run" else {name} if kind == "dataset" else set()
    for digest, manifest in behind.items():
        for found in sorted(made & ancestry(ledger, digest).keys()):
            yield f"the dataset {found[:12]} behind it"
        if kind in ("record", "batch", "source") and manifest is not None and _holds(kind, name, manifest, ledger):
            yield f"records behind it, in dataset {digest[:12]}"


def _unknown(incident: Incident, behind: dict[str, Manifest | None], ledger: Ledger) -> Iterator[str]:
    """What behind the model might lie in the scope of an incident, but cannot be looked up."""
    kind = incident.ref.partition(":")[0]
    if kind in ("record", "batch", "source"):
        lost = [digest for digest, manifest in behind.items() if manifest is None]
    elif kind in ("dataset", "run"):
        lost = [one for digest in behind for one, manifest in ancestry(ledger, digest).items() if manifest is None]
    else:
        lost = []
    for digest in lost:
        yield f"records that cannot be looked up: the ledger lacks dataset {digest[:12]}"


def _made_by(run: str, ledger: Ledger) -> set[str]:
    steps = (canonical.loads(ledger.get(name), name) for name in ledger.names(f"runs/{run}/"))
    return {end["digest"] for step in steps for end in step["outputs"] if end["kind"] == "dataset"}


def _holds(kind: str, name: str, manifest: Manifest, ledger: Ledger) -> bool:
    """Whether a dataset has records of a source, of a batch, or one record; who cannot tell says yes."""
    shares = [share for share in manifest.history.sources if share.records]
    if kind == "source":
        return any(share.source == name for share in shares)
    record = RecordId.parse(name) if kind == "record" else None
    full = f"{record.source}/{record.batch}" if record else name
    held = any(f"{share.source}/{share.batch}" == full for share in shares)
    return held and (record is None or _row_in(manifest, full, record.row, ledger))


def _row_in(manifest: Manifest, batch: str, row: int, ledger: Ledger) -> bool:
    try:
        keys: Any = table_in(ledger.get(f"records/{manifest.content_digest}.parquet"))
        if manifest.history.record_list not in ("", record_list_root(keys)):  # empty in manifests of release 0.1
            return True
    except (AssayError, pa.ArrowException, OSError, KeyError):
        return True  # the list is gone, broken or another one: the record may be in there
    return bool(pc.any(pc.and_(pc.equal(keys["batch"], batch), pc.equal(keys["row"], row))).as_py())
