"""``assay trace``: who else is affected, and where did this come from?"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from assay.cli._shared import Json, answer, leave, notes

SHOWN_BRANCHES = 12
DIGITS = 12

__all__ = ["command", "lines"]


def command(
    ref: Annotated[
        str,
        typer.Argument(
            metavar="REF",
            help="record:A/B:17, batch:A/B, source:A, dataset:DIGEST, run:ID, model:NAME/VERSION, alias:NAME@ALIAS, "
            "deployment:NAME; also model, evidence, decision and promotion by digest, or its first six digits.",
        ),
    ],
    json: Json = False,
) -> None:
    """Walk the signed ledger from anything it knows; in both directions.

    Leaves with 3 when a document of the ledger does not hold, since the answer may then be incomplete.
    """
    from assay.trace import trace
    from assay.workspace import Workspace

    workspace = Workspace.from_env().with_ledger()
    document = trace(ref, workspace.ledger, workspace.keyring)
    answer(document, json, lines(document))
    for problem in document["problems"]:
        notes.print(f"does not hold: {problem['name']}: {problem['reason']}", markup=False)
    leave(3 if document["problems"] else 0)


def lines(document: dict[str, Any]) -> list[str]:
    """The answer for people: a tree for each direction, then what was reached and what serves now."""
    nodes = {node["id"]: node for node in document["nodes"]}
    near = {name for name, node in nodes.items() if node["side"] != "upstream"}
    down = [edge for edge in document["edges"] if edge["to"] in near and edge["from"] in near]
    up = [edge for edge in document["edges"] if edge["to"] not in near or edge["from"] not in near]
    turned = [edge | {"from": edge["to"], "to": edge["from"]} for edge in up]
    return [
        *_tree("reached", document["ref"], down, nodes),
        *_tree("came from", document["ref"], turned, nodes),
        *_summary(document),
    ]


def _tree(title: str, root: str, edges: list[dict[str, str]], nodes: dict[str, dict[str, Any]]) -> list[str]:
    """A drawn tree; a node that was drawn already is only named."""
    from io import StringIO

    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    below: dict[str, list[dict[str, str]]] = {}
    for edge in edges:
        below.setdefault(edge["from"], []).append(edge)
    if root not in below:
        return [f"{title}: nothing"]
    drawn: set[str] = set()

    def grow(branch: Tree, name: str) -> None:
        drawn.add(name)
        ends = below.get(name, [])
        for edge in ends[:SHOWN_BRANCHES]:
            again = edge["to"] in drawn
            label = f"{edge['relation']}: {_label(nodes[edge['to']])}" + (" (see above)" if again else "")
            twig = branch.add(Text(label))
            if not again:
                grow(twig, edge["to"])
        if len(ends) > SHOWN_BRANCHES:
            branch.add(Text(f"and {len(ends) - SHOWN_BRANCHES} more (--json lists all)"))

    tree = Tree(Text(f"{title}: {_label(nodes[root])}"))
    grow(tree, root)
    sheet = StringIO()
    Console(file=sheet, width=200, color_system=None).print(tree)
    return [line.rstrip() for line in sheet.getvalue().splitlines()]


def _label(node: dict[str, Any]) -> str:
    kind, _, name = node["id"].partition(":")
    short = name[:DIGITS] if len(name) == 64 else name
    unverified = [] if node.get("verified", True) else ["unverified"]
    if node["kind"] == "removed":
        reasons = ", ".join(f"{reason} ({count})" for reason, count in node["reasons"].items())
        return f"{node['records']} record(s) by {node['step']}: {reasons}"
    if node["kind"] == "dataset" and "step" in node:
        inside = f"{node['in_scope']} of {node['records']}" if "in_scope" in node else f"{node['records']}"
        unverified.append(f"{inside} records, {node['step']} {node['role']}".rstrip())
    return " ".join([f"{kind}:{short}", *(f"[{part}]" for part in unverified)])


def _summary(document: dict[str, Any]) -> list[str]:
    reached = document["reached"]
    serving = [
        f"serving now: {found['alias']} at {found['version'] or found['model'][:DIGITS]}, promotion {found['sequence']}"
        for found in reached["serving"]
    ]
    counts = {what: len(reached[what]) for what in ("models", "versions", "aliases")}
    said = f"{counts['models']} model(s), {counts['versions']} version(s), {counts['aliases']} alias(es) reached"
    return [*(serving or ["serving now: none of them"]), said]
