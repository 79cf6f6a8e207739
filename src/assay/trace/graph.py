"""The ledger as a graph: every edge runs the way the data ran, and names the document that proves it.

source -> batch -> dataset -> dataset -> model -> evidence -> decision -> promotion -> model version -> alias
                              dataset -> evidence (hold-out)     run -> what it made, what it read -> run
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from assay import canonical
from assay.errors import UnfitInput
from assay.evidence import sets_of
from assay.trace.index import Envelope, Index, place_of
from assay.trace.ref import KINDS

__all__ = ["Edge", "Graph", "kind_of"]


class Edge(NamedTuple):
    """One proven step from a node to a node; ``proof`` is a name in the ledger."""

    start: str
    end: str
    relation: str
    proof: str

    def to_json(self) -> dict[str, str]:
        """Plain data."""
        return {"from": self.start, "to": self.end, "relation": self.relation, "proof": self.proof}


@dataclass(frozen=True)
class Graph:
    """Edges by their two ends; a node is there when an edge touches it, or the index knows it."""

    index: Index
    outward: dict[str, list[Edge]]
    inward: dict[str, list[Edge]]

    @classmethod
    def of(cls, index: Index) -> Graph:
        """The graph of everything that the index holds."""
        outward: dict[str, list[Edge]] = defaultdict(list)
        inward: dict[str, list[Edge]] = defaultdict(list)
        for part in (_data(index), _models(index), _decisions(index), _runs(index)):
            for edge in part:
                outward[edge.start].append(edge)
                inward[edge.end].append(edge)
        return cls(index, dict(outward), dict(inward))

    def names(self, kind: str) -> list[str]:
        """What follows the colon in the ids of all nodes of a kind, sorted."""
        nodes = {node for node in (*self.outward, *self.inward) if kind_of(node) == kind}
        nodes |= {f"dataset:{digest}" for digest in self.index.histories} if kind == "dataset" else set()
        nodes |= {f"model:{digest}" for digest in self.index.models} if kind == "model" else set()
        return sorted(node.partition(":")[2] for node in nodes)

    def facts(self, node: str) -> dict[str, Any]:
        """What the ledger says of a node."""
        kind, name = kind_of(node), node.partition(":")[2]
        index = self.index
        if kind == "batch" and name in index.batches:
            return {"sha256": index.batches[name]["sha256"]}
        if kind == "dataset" and name in index.histories:
            made = index.histories[name]
            digest = canonical.digest(made["content"])
            return {field: made[field] for field in ("step", "role", "records")} | {"content_digest": digest}
        if kind == "model" and name in index.models:
            made = index.models[name]
            incidents = {"incidents": index.incidents[name]} if name in index.incidents else {}
            return {field: made[field] for field in ("method", "threat", "dataset")} | incidents
        if kind == "model_version":
            promotion = next(edge for edge in self.inward[node] if edge.relation == "registered").start
            return {"model": index.envelopes["promotions"][promotion.partition(":")[2]].subjects["model"]}
        if kind == "alias":
            return _alias_facts(index, index.heads[name])
        family = {"evidence": "evidence", "decision": "decisions", "promotion": "promotions"}.get(kind, "")
        envelope = index.envelopes.get(family, {}).get(name)
        return _envelope_facts(kind, envelope) if envelope is not None else {}


def kind_of(node: str) -> str:
    """The kind of a node, from its id; ``model:<name>/<version>`` is a ``model_version``."""
    kind, _, name = node.partition(":")
    return "model_version" if kind == "model" and "/" in name else kind


def _data(index: Index) -> Iterator[Edge]:
    for name in index.batches:
        yield Edge(f"source:{name.partition('/')[0]}", f"batch:{name}", "delivered", f"batches/{name}.json")
    for digest, made in index.histories.items():
        proof, role = f"manifests/{digest}.json", made["role"] or "made"
        for parent in made["parents"]:
            yield Edge(f"dataset:{parent}", f"dataset:{digest}", role, proof)
        root = not made["parents"] or not all(parent in index.histories for parent in made["parents"])
        for share in made["sources"] if root else ():
            batch = f"batch:{share['source']}/{share['batch']}"
            if f"{share['source']}/{share['batch']}" not in index.batches:
                yield Edge(f"source:{share['source']}", batch, "delivered", proof)
            yield Edge(batch, f"dataset:{digest}", role, proof)


def _models(index: Index) -> Iterator[Edge]:
    for digest, made in index.models.items():
        if made["dataset"]:
            yield Edge(f"dataset:{made['dataset']}", f"model:{digest}", "trained", f"models/{digest}.json")
    for envelope in index.envelopes["evidence"].values():
        node = f"evidence:{envelope.id}"
        if "model" in envelope.subjects:  # what could only be asked has an address
            yield Edge(f"model:{envelope.subjects['model']}", node, "measured", envelope.name)
        if "holdout" in envelope.subjects:
            yield Edge(f"dataset:{envelope.subjects['holdout']}", node, "measured_on", envelope.name)
        for name, digest in _sets(envelope).items():
            yield Edge(f"dataset:{digest}", node, f"measured with set {name}", envelope.name)


def _sets(envelope: Envelope) -> dict[str, str]:
    """The named sets of evidence; none of one that says something else, which nothing that decides accepts."""
    try:
        return sets_of(envelope.predicate.get("measured") or {})
    except (UnfitInput, AttributeError):
        return {}


def _decisions(index: Index) -> Iterator[Edge]:
    for envelope in index.envelopes["decisions"].values():
        said = str(envelope.predicate["decision"])
        yield Edge(f"evidence:{envelope.subjects['evidence']}", f"decision:{envelope.id}", said, envelope.name)
    for envelope in index.envelopes["promotions"].values():
        node, alias = f"promotion:{envelope.id}", f"alias:{place_of(envelope)}"
        yield Edge(f"model:{envelope.subjects['model']}", node, "promoted", envelope.name)
        yield Edge(f"decision:{envelope.subjects['decision']}", node, "promoted", envelope.name)
        relation = "serves" if index.heads[place_of(envelope)].id == envelope.id else "served"
        version = index.version_of(envelope)
        if version:
            yield Edge(node, f"model:{version}", "registered", index.versions[envelope.id][1])
            yield Edge(f"model:{version}", alias, relation, envelope.name)
        else:
            yield Edge(node, alias, relation, envelope.name)


def _runs(index: Index) -> Iterator[Edge]:
    for step in index.steps:
        for kind, name in step.inputs:
            if kind in KINDS:
                yield Edge(f"{kind}:{name}", f"run:{step.run}", f"read by {step.step}", step.name)
        for kind, name in step.outputs:
            if kind in KINDS:
                yield Edge(f"run:{step.run}", f"{kind}:{name}", f"made by {step.step}", step.name)


def _envelope_facts(kind: str, envelope: Envelope) -> dict[str, Any]:
    said = {"decision": envelope.predicate.get("decision")} if kind == "decision" else {}
    place = {"target": place_of(envelope), "sequence": envelope.predicate["sequence"]} if kind == "promotion" else {}
    return said | place | {"model": envelope.subjects.get("model", ""), "verified": envelope.verified}


def _alias_facts(index: Index, head: Envelope) -> dict[str, Any]:
    return {
        "promotion": head.id,
        "sequence": head.predicate["sequence"],
        "model": head.subjects["model"],
        "version": index.version_of(head),
        "verified": head.verified,
    }
