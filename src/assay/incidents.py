"""Incidents that are open, and whether one of them reaches a batch or a model: asked wherever either is taken in.

``assay contain --apply`` signs an incident: what it is about (a record, batch, source, dataset, run, model) and the
models that had learned from it by then. A model trained later from the same records is reached too, though no incident
lists it: so its training data is followed back through the ledger's manifests. An incident is closed by whoever keeps
the key list, by revoking its payload there; one that cannot be verified is taken for open, since it may be true.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay import canonical
from assay.data.dataset import record_list_root
from assay.data.manifest import Manifest
from assay.data.records import RecordId
from assay.errors import AssayError, Refused, UnfitInput
from assay.ledger import Ledger
from assay.lineage import ancestors
from assay.signing import Keyring, payload_digest, unseal

KIND = "incident"

__all__ = ["Incident", "named_records", "open_incidents", "require_clear", "require_unaffected"]


@dataclass(frozen=True)
class Incident:
    """A verified incident that is open.

    Fields:
        name: in the ledger.
        ref: what it is about, ``<kind>:<name>``.
        models: digests of the models it lists.
    """

    name: str
    ref: str
    models: frozenset[str]


def open_incidents(ledger: Ledger, keyring: Keyring) -> Iterator[Incident]:
    """Every incident of the ledger whose payload the keyring does not revoke.

    Raises:
        Refused: one whose signature does not hold; its payload may be revoked like any other.
    """
    for name in ledger.names("incidents/"):
        data = ledger.get(name)
        try:
            if payload_digest(data, name) in keyring.revoked:
                continue
            opened = unseal(data, keyring, kind=KIND, role="evaluator", where=name)
            models = frozenset(entry["digest"]["sha256"] for entry in opened.statement["subject"])
            yield Incident(name, str(opened.predicate["ref"]), models)
        except (AssayError, KeyError, TypeError) as error:
            fix = "Trust its key again, or revoke its payload once it is known to be false."
            raise Refused(
                name, f"an incident that cannot be verified ({error})", "none, or one that can", fix
            ) from error


def require_clear(source: str, batch: str, incidents: Iterable[Incident]) -> None:
    """Refuse a batch that an open incident is about, itself or through its source.

    Raises:
        Refused: names the incident.
    """
    for incident in incidents:
        if incident.ref in (f"source:{source}", f"batch:{source}/{batch}"):
            raise Refused(
                f"batch {source}/{batch}",
                f"one that incident {incident.name} is about ({incident.ref})",
                "a batch that no open incident is about",
                "Leave it out; an incident is closed by revoking its payload in the key list.",
            )


def named_records(incidents: Iterable[Incident]) -> frozenset[str]:
    """The record ids that open incidents are about."""
    return frozenset(
        incident.ref.removeprefix("record:") for incident in incidents if incident.ref.startswith("record:")
    )


def require_unaffected(model: str, dataset: str, ledger: Ledger, keyring: Keyring) -> None:
    """Refuse a model that an open incident reaches.

    Args:
        model: digest of its folder.
        dataset: manifest digest of the records it learned from; empty for a model that came without any.
        ledger: holds incidents and manifests.
        keyring: whose incidents count.

    Raises:
        Refused: an incident lists the model, or is about data that it learned from, or that cannot be told.
    """
    for incident in open_incidents(ledger, keyring):
        if model in incident.models or (dataset and _reaches(incident, dataset, ledger)):
            raise Refused(
                f"model {model[:12]}",
                f"one that incident {incident.name} reaches ({incident.ref})",
                "a model that no open incident reaches",
                "Train without the records it names; an incident is closed by revoking its payload in the key list.",
            )


def _reaches(incident: Incident, dataset: str, ledger: Ledger) -> bool:
    kind, _, name = incident.ref.partition(":")
    if kind in ("record", "batch", "source"):
        return _holds(kind, name, dataset, ledger)
    if kind == "dataset":
        return name in _ancestors(dataset, ledger)
    if kind == "run":
        return bool(_made_by(name, ledger) & _ancestors(dataset, ledger).keys())
    return False  # a model, or what stands for one: the incident lists it


def _holds(kind: str, name: str, dataset: str, ledger: Ledger) -> bool:
    """Whether a dataset holds records of a source or batch, or the one record."""
    manifest = _ancestors(dataset, ledger)[dataset]
    record = RecordId.parse(name) if kind == "record" else None
    wanted = f"{record.source}/{record.batch}" if record else name
    shares = [share for share in manifest.history.sources if share.records]
    named = {share.source if kind == "source" else f"{share.source}/{share.batch}" for share in shares}
    return wanted in named and (record is None or _has_record(record, manifest, ledger))


def _has_record(record: RecordId, manifest: Manifest, ledger: Ledger) -> bool:
    name = f"records/{manifest.content_digest}.parquet"
    try:
        keys = pq.read_table(io.BytesIO(ledger.get(name)), columns=["batch", "row"])
        if manifest.history.record_list not in ("", record_list_root(keys)):  # empty in manifests of release 0.1
            return True
        mine = pc.and_(pc.equal(keys["batch"], f"{record.source}/{record.batch}"), pc.equal(keys["row"], record.row))
        return bool(pc.any(mine).as_py())
    except (AssayError, pa.ArrowException, OSError, KeyError):
        return True  # the list is gone, broken or another one: the record may be in there


def _made_by(run: str, ledger: Ledger) -> set[str]:
    steps = (canonical.loads(ledger.get(name), name) for name in ledger.names(f"runs/{run}/"))
    return {end["digest"] for step in steps for end in step["outputs"] if end["kind"] == "dataset"}


def _ancestors(dataset: str, ledger: Ledger) -> dict[str, Manifest]:
    """A dataset and every one it was made from.

    Raises:
        Refused: one of them is missing, and could be what an incident is about.
    """
    try:
        return ancestors(dataset, ledger)
    except UnfitInput as error:
        raise Refused(error.where, error.got, "the manifest, to tell whether an open incident reaches it") from error
