"""The chain of custody: from delivered batches to the promotion, each link checked again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from assay.report.facts import Facts, Part, Reading, Sealed

PROMOTED = ("decision", "evidence", "model")
ACCOUNTS = {
    "holds": "kept and quarantined records together are its input",
    "misses": "kept and quarantined records together are not its input",
    "not_measured": "its quarantine is not here, so removals were not checked",
}

__all__ = ["Link", "accounted", "broken", "chain"]


@dataclass(frozen=True, kw_only=True)
class Link:
    """One link.

    Fields:
        name: what the digest names.
        digest: SHA-256, or empty when it is not known.
        verdict: does it follow from the link before? ``holds``, ``misses``, ``unclear`` (not signed),
            ``not_measured``, or ``named`` where there is nothing to compare.
        says: what was checked.
    """

    name: str
    digest: str
    verdict: str
    says: str


def chain(facts: Facts) -> list[Link]:
    """Every link in order; one whose ends are not both known is not measured."""
    return [*_data(facts), *_model(facts)]


def broken(links: list[Link]) -> list[Link]:
    """The links that do not hold."""
    return [link for link in links if link.verdict == "misses"]


def accounted(whole: Reading[Part], kept: Reading[Part], removed: Reading[Part]) -> str:
    """Whether kept and quarantined records are the input's, as multisets of record ids."""
    if whole.value is None or kept.value is None or removed.value is None:
        return "not_measured"
    parts = pa.concat_tables([_ids(kept.value), _ids(removed.value)])
    return _says(parts.sort_by([("batch", "ascending"), ("row", "ascending")]).equals(_ids(whole.value)))


def _data(facts: Facts) -> list[Link]:
    return [
        _dataset("dataset from ingest", facts.dataset, None, None),
        _dataset("dataset after sanitize", facts.kept, facts.dataset, facts.sanitize_quarantine),
        _dataset("dataset after the poison filter", facts.filtered, facts.kept, facts.filter_quarantine),
    ]


def _dataset(name: str, part: Reading[Part], parent: Reading[Part] | None, removed: Reading[Part] | None) -> Link:
    if part.value is None:
        return Link(name=name, digest="", verdict="misses" if part.problem else "not_measured", says=part.why)
    manifest = part.value.manifest
    if parent is None or removed is None:
        return Link(name=name, digest=manifest.digest, verdict="holds", says="Every record agrees with the manifest.")
    if parent.value is None:
        return Link(
            name=name, digest=manifest.digest, verdict="not_measured", says="The dataset before it is not here."
        )
    named = parent.value.manifest.digest in manifest.history.parents
    whole = accounted(parent, part, removed)
    verdict = "misses" if not named or whole == "misses" else "holds"
    made = "It was made from the one above" if named else "It was made from another dataset than the one above"
    return Link(name=name, digest=manifest.digest, verdict=verdict, says=f"{made}; {ACCOUNTS[whole]}.")


def _model(facts: Facts) -> list[Link]:
    evidence, decision, promotion = facts.evidence.value, facts.decision.value, facts.promotion.value
    trained = facts.filtered.value.manifest.digest if facts.filtered.value else ""
    subjects = evidence.subjects if evidence else {}
    deciding, promoted = decision.subjects if decision else {}, promotion.subjects if promotion else {}
    model, holdout = subjects.get("model", ""), subjects.get("holdout", "")
    measured, decided = evidence.id if evidence else "", decision.id if decision else ""
    about = [(deciding.get("evidence", ""), measured), (deciding.get("model", ""), model)]
    by = [(promoted.get(name, ""), value) for name, value in zip(PROMOTED, (decided, measured, model), strict=True)]
    return [
        _follows("model", model, [(subjects.get("dataset", ""), trained)], "trained on the records above"),
        Link(
            name="hold-out records",
            digest=holdout,
            verdict="named" if holdout else "not_measured",
            says="Trusted records that no step before evaluation sees, as the evidence names them.",
        ),
        _sealed("evidence", facts.evidence, [], "measured on this model"),
        _sealed("decision", facts.decision, about, "made about this evidence and this model"),
        _sealed("promotion", facts.promotion, by, "made by this decision, of this model"),
    ]


def _follows(name: str, digest: str, pairs: list[tuple[str, str]], claim: str, more: str = "") -> Link:
    """A link that holds when every pair of digests agrees."""
    if not digest or not all(first and second for first, second in pairs):
        told = f"Whether it was {claim} is not known: one end of the link is not here{more}."
        return Link(name=name, digest=digest, verdict="not_measured", says=told)
    holds = all(first == second for first, second in pairs)
    return Link(name=name, digest=digest, verdict=_says(holds), says=f"It was {'' if holds else 'not '}{claim}{more}.")


def _sealed(name: str, reading: Reading[Sealed[Any]], pairs: list[tuple[str, str]], claim: str) -> Link:
    sealed = reading.value
    if sealed is None:
        return Link(name=name, digest="", verdict="misses" if reading.problem else "not_measured", says=reading.why)
    if not sealed.verified:
        return Link(name=name, digest=sealed.id, verdict="misses" if sealed.signed else "unclear", says=sealed.doubt)
    keys = ", ".join(keyid[:12] for keyid in sealed.signers)
    return _follows(name, sealed.id, pairs, claim, f"; signed by key {keys} ({sealed.assurance})")


def _ids(part: Part) -> pa.Table:
    keys = part.keys.select(["batch", "row"])
    return keys.set_column(0, "batch", keys["batch"].cast(pa.string())).combine_chunks()


def _says(holds: bool) -> str:
    return "holds" if holds else "misses"
