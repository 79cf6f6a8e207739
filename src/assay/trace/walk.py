"""The walk: from one reference along proven edges, downstream to what it reached and upstream to what it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from assay.errors import UnfitInput
from assay.keyring import Keyring
from assay.ledger import Ledger
from assay.trace.graph import Edge, Graph, kind_of
from assay.trace.index import Index
from assay.trace.ref import Ref, Scope, by_prefix, unknown
from assay.workspace import Workspace

ORDER = (
    "source",
    "batch",
    "record",
    "run",
    "dataset",
    "removed",
    "model",
    "evidence",
    "decision",
    "promotion",
    "model_version",
    "alias",
)
BY_DIGEST = ("dataset", "evidence", "decision", "promotion")
Found = tuple[set[Edge], dict[str, str], dict[str, dict[str, Any]]]

__all__ = ["trace"]


def trace(ref: str, ledger: Ledger, keyring: Keyring | None = None) -> dict[str, Any]:
    """What a thing reached, and what it came from.

    Args:
        ref: ``record:a/b:17``, ``batch:a/b``, ``source:a``, ``dataset:<digest>``, ``run:<id>``,
            ``model:<name>/<version>``, ``model:<digest>``, ``alias:<name>@<alias>``, ``deployment:<name>`` (the
            model that is served, with ``@<alias>`` where it has several), ``evidence:<id>``, ``decision:<id>``,
            ``promotion:<id>``; a digest or id may be cut to six digits or more.
        ledger: to read.
        keyring: whose signatures count; by default the workspace's.

    Returns:
        ``ref``: as the ledger writes it; ``nodes``: id, kind, side (self, upstream or downstream), and facts;
        ``edges``: from, to, relation, and proof, the ledger's name of the document that says so; ``reached``: models,
        versions and aliases downstream or named, and those of the aliases that serve it now; ``problems``: documents
        that do not hold, with the reason. Any problem means that the answer may be incomplete. Order is stable.

    Raises:
        UnknownName: a kind or name that the ledger does not know; carries the nearest.
        UnfitInput: a reference of another form.
    """
    parsed = Ref.parse(ref)
    scope = Scope.of(parsed)
    index = Index.read(ledger, Workspace.from_env().keyring if keyring is None else keyring)
    graph = Graph.of(index)
    if scope is not None:
        origin, found = _from_records(graph, parsed, scope)
    else:
        origin = _origin(graph, parsed)
        found = _from_thing(graph, origin)
    edges, sides, facts = found
    _add_makers(graph, edges, sides)
    nodes = [_node(graph, node, side, facts.get(node, {})) for node, side in sides.items()]
    nodes.sort(key=lambda node: (ORDER.index(node["kind"]), node["id"]))
    return {
        "ref": origin,
        "nodes": nodes,
        "edges": [edge.to_json() for edge in sorted(edges)],
        "reached": _reached(nodes, edges),
        "problems": sorted(index.problems, key=lambda problem: problem["name"]),
    }


def _origin(graph: Graph, ref: Ref) -> str:
    """The id of the node that a reference names."""
    if ref.kind == "deployment":
        return f"alias:{_served_by(ref, graph.names('alias'))}"
    if ref.kind in BY_DIGEST:
        return f"{ref.kind}:{by_prefix(ref.kind, ref.name, graph.names(ref.kind))}"
    kind = "model_version" if ref.kind == "model" and "/" in ref.name else ref.kind
    known = graph.names(kind)
    versions = [name for name in graph.names("model_version") if name.startswith(f"{ref.name}/")]
    if kind == "model" and versions:
        raise unknown("model", ref.name, versions)
    if kind == "model" and ref.name not in known:
        return f"model:{by_prefix('model', ref.name, known)}"
    if ref.name not in known:
        raise unknown(ref.kind, ref.name, known)
    return str(ref)


def _served_by(ref: Ref, known: list[str]) -> str:
    """The target whose last promotion a deployment serves, see `assay.serving`: named as the model, or as the target.

    Raises:
        UnknownName: nothing was ever promoted to it.
        UnfitInput: a model with several aliases.
    """
    found = [place for place in known if ref.name in (place, place.partition("@")[0])]
    if not found:
        raise unknown(ref.kind, ref.name, known)
    if len(found) > 1:
        raise UnfitInput(str(ref), f"one of {', '.join(found)}", f"which, such as deployment:{found[0]}")
    return found[0]


def _from_thing(graph: Graph, origin: str) -> Found:
    """Both closures of one node."""
    sides = {origin: "self"}
    edges = _closure(graph.outward, origin, lambda edge: edge.end, _passes_down, sides, "downstream")
    own = {edge.end for edge in graph.outward.get(origin, ())} if kind_of(origin) == "run" else set()

    def passes_up(edge: Edge) -> bool:
        """A run read what it made itself only on the way."""
        return _passes_up(edge) and not (edge.end == origin and edge.start in own)

    back = _closure(graph.inward, origin, lambda edge: edge.start, passes_up, {}, "upstream")
    back = _without_what_left(graph, origin, back)
    for edge in back:
        sides.setdefault(edge.start, "upstream")
    return edges | back, sides, {}


def _from_records(graph: Graph, ref: Ref, scope: Scope) -> tuple[str, Found]:
    """Where the records of a scope went, where they were taken out, and who delivered them."""
    index, origin = graph.index, str(ref)
    batches = {f"batch:{name}" for name in graph.names("batch") if scope.takes(*name.split("/"))}
    if not batches:
        raise unknown(ref.kind, ref.name, graph.names("batch" if scope.batch else "source"))
    held: dict[str, int] = {}

    def passes(edge: Edge) -> bool:
        if kind_of(edge.end) == "dataset" and edge.end not in held:
            held[edge.end] = index.records_of(edge.end.partition(":")[2], scope)
        return held.get(edge.end, 1) > 0 and _passes_down(edge)

    start = origin if ref.kind != "record" else f"batch:{scope.source}/{scope.batch}"
    sides = {start: "self"}
    edges = _closure(graph.outward, start, lambda edge: edge.end, passes, sides, "downstream")
    facts: dict[str, dict[str, Any]] = {node: {"in_scope": count} for node, count in held.items() if count}
    edges |= _removals(graph, scope, batches, sides, facts)
    if ref.kind == "record":
        edges = _through_record(graph, edges, start, origin)
        sides |= {start: "upstream", origin: "self"}
    for edge in _closure(graph.inward, start, lambda edge: edge.start, lambda edge: True, sides, "upstream"):
        edges.add(edge)
    return origin, (edges, sides, facts)


def _closure(
    ends: dict[str, list[Edge]],
    origin: str,
    other: Callable[[Edge], str],
    passes: Callable[[Edge], bool],
    sides: dict[str, str],
    side: str,
) -> set[Edge]:
    """Every edge that can be reached from the origin through edges that pass; notes the side of new nodes."""
    found: set[Edge] = set()
    seen, waiting = {origin}, [origin]
    while waiting:
        for edge in ends.get(waiting.pop(), ()):
            if not passes(edge):
                continue
            found.add(edge)
            node = other(edge)
            if node not in seen:
                seen.add(node)
                sides.setdefault(node, side)
                waiting.append(node)
    return found


def _passes_down(edge: Edge) -> bool:
    """A run is no channel: what one step read did not flow into everything that the run made."""
    return kind_of(edge.end) != "run"


def _passes_up(edge: Edge) -> bool:
    """Neither is it upstream; and an alias comes from the promotion it serves now, not from earlier ones."""
    return kind_of(edge.start) != "run" and edge.relation != "served"


def _without_what_left(graph: Graph, origin: str, edges: set[Edge]) -> set[Edge]:
    """Upstream edges without the batches whose records were all taken out before the first dataset on the way."""
    first = {edge.start for edge in edges if kind_of(edge.start) == "dataset" != kind_of(edge.end)} | {origin}
    histories = [graph.index.histories.get(node.partition(":")[2], {"sources": ()}) for node in first]
    kept = {f"batch:{share['source']}/{share['batch']}" for history in histories for share in history["sources"]}
    kept |= {origin} | {edge.start for edge in edges if edge.end == origin}
    return {
        edge
        for edge in edges
        if (kind_of(edge.start) != "batch" or edge.start in kept)
        and (kind_of(edge.start) != "source" or edge.end in kept)
    }


def _removals(
    graph: Graph, scope: Scope, batches: set[str], sides: dict[str, str], facts: dict[str, dict[str, Any]]
) -> set[Edge]:
    """One node for each step that took records of the scope out, with the reasons; edges from where they were."""
    edges: set[Edge] = set()
    for digest, made in graph.index.histories.items():
        parents = {f"dataset:{parent}" for parent in made["parents"]} & sides.keys()
        findings = graph.index.removed(digest, scope)
        if not findings:
            continue
        node, proof = f"removed:{digest}", f"findings/{made['findings']}.parquet"
        reasons = Counter(f"{finding.detector}: {finding.reason}" for finding in findings)
        records = {finding.record_id for finding in findings}
        facts[node] = {"step": made["step"], "records": len(records), "reasons": dict(sorted(reasons.items()))}
        sides.setdefault(node, "downstream")
        named = {f"batch:{record.rpartition(':')[0]}" for record in records} & batches
        edges |= {Edge(start, node, "removed", proof) for start in (parents or named)}
    return edges


def _through_record(graph: Graph, edges: set[Edge], batch: str, record: str) -> set[Edge]:
    """The same edges with the record in place of its batch, proven by the list of records.

    Raises:
        UnfitInput: no edge, so no such record.
    """
    mine = {edge for edge in edges if edge.start == batch}
    if not mine:
        raise UnfitInput(record, "no such record in that batch", "one that a dataset holds or that was taken out")
    moved = {Edge(record, edge.end, edge.relation, _list_of(graph, edge)) for edge in mine}
    origin = min(edge.proof for edge in moved)
    return (edges - mine) | moved | {Edge(batch, record, "delivered", origin)}


def _list_of(graph: Graph, edge: Edge) -> str:
    digest = edge.end.partition(":")[2]
    held = edge.end.startswith("dataset:") and digest in graph.index.histories
    return graph.index.record_list_of(digest) if held else edge.proof


def _add_makers(graph: Graph, edges: set[Edge], sides: dict[str, str]) -> None:
    """The runs that made what is there; they lead no further."""
    for node in list(sides):
        for edge in graph.inward.get(node, ()):
            if kind_of(edge.start) == "run":
                edges.add(edge)
                sides.setdefault(edge.start, "upstream")


def _node(graph: Graph, node: str, side: str, facts: dict[str, Any]) -> dict[str, Any]:
    return {"id": node, "kind": kind_of(node), "side": side} | graph.facts(node) | facts


def _reached(nodes: list[dict[str, Any]], edges: set[Edge]) -> dict[str, Any]:
    near = {node["id"]: node for node in nodes if node["side"] != "upstream"}
    serves = {edge.end for edge in edges if edge.relation == "serves" and edge.start in near}
    return {
        "models": [name for name, node in near.items() if node["kind"] == "model"],
        "versions": [name for name, node in near.items() if node["kind"] == "model_version"],
        "aliases": [name for name, node in near.items() if node["kind"] == "alias"],
        "serving": [
            {"alias": name, "model": node["model"], "version": node["version"], "sequence": node["sequence"]}
            for name, node in near.items()
            if node["kind"] == "alias" and (name in serves or node["side"] == "self")
        ],
    }
