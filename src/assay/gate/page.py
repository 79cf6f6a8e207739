"""The page of one decision: the verdict, each interval against its bar, what would change it, what it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from assay.approvals import KIND as APPROVAL
from assay.attempts import confidence_at
from assay.data.files import write_file
from assay.data.manifest import Manifest
from assay.errors import AssayError
from assay.evidence import Evidence, payload_id
from assay.gate.summary import changes, headline
from assay.incidents import ancestry
from assay.keyring import Keyring, Role
from assay.ledger import Ledger
from assay.report import html, plots
from assay.report.verdicts import Decision, read_decision
from assay.signing import Opened, unseal
from assay.workspace import Workspace

MOST_DECISIONS = 1000  # read to tell what came of earlier attempts; beyond, only their evidence is named
Link = tuple[str, str, str, str]

__all__ = ["write_page"]


def write_page(path: Path, document: Mapping[str, Any], workspace: Workspace) -> None:
    """Write the page about a decision that is in the ledger, whole; what the ledger lacks is said to be missing.

    Args:
        path: of the HTML file.
        document: the decision's statement.
        workspace: whose ledger and keyring; signatures are verified again.
    """
    body, decision = document["predicate"], read_decision(document)
    subjects = {entry["name"]: entry["digest"]["sha256"] for entry in document["subject"]}
    text = html.page(
        f"{decision.target[0]}@{decision.target[1]}",
        html.banner(decision.word, headline(decision.word, body["rules"])),
        _rules(decision),
        html.section("What would change it", *(html.paragraph(line) for line in changes(body))),
        html.section(
            "Chain of custody",
            html.steps(_chain(document, subjects, workspace)),
            lead="Each digest names exact bytes, looked up in the ledger and verified while this page was written.",
        ),
        _attempts(body, subjects, workspace),
        _check(document, subjects),
        kicker=f"assay gate, decision {payload_id(document)[:12]}",
    )
    write_file(path, text.encode())


def _rules(decision: Decision) -> Markup:
    drawn = [rule.interval for rule in decision.rules if rule.interval is not None]
    rows = [
        (
            html.badge(rule.verdict),
            rule.name if rule.required else f"{rule.name} (advisory)",
            rule.about,
            rule.need,
            rule.estimate,
            rule.note or None,
        )
        for rule in decision.rules
    ]
    plot = plots.intervals(drawn, title="Each interval against its bar", axis="estimate")
    caption = "Shaded: where the policy wants the whole interval to lie. A rule reads the interval, never the point."
    return html.section(
        "Rules",
        *([html.figure(plot, caption)] if drawn else []),
        html.table(["verdict", "rule", "about", "needs", "measured", "note"], rows),
        lead="Every required rule has to hold. Intervals have the confidence that this attempt asks for.",
    )


def _chain(document: Mapping[str, Any], subjects: Mapping[str, str], workspace: Workspace) -> Iterator[Link]:
    """From the delivered batches to the decision."""
    ledger, keyring = workspace.ledger, workspace.keyring
    evidence = _opened(ledger, keyring, f"evidence/{subjects['evidence']}.dsse.json", "evidence", "evaluator")
    measured = Evidence.from_statement(evidence.statement) if isinstance(evidence, Opened) else None
    named = measured.subjects if measured else {}
    yield from _datasets("training records", named.get("dataset", ""), ledger)
    about = named.get("model") == subjects["model"]
    says = "The model the evidence is about." if about else "Whether the evidence is about it is not known."
    yield "model", subjects["model"], "holds" if about else "not_measured", says
    yield from _datasets("hold-out records", named.get("holdout", ""), ledger)
    yield _signed("evidence", subjects["evidence"], evidence)
    yield "policy", subjects["policy"], "named", f"{len(document['predicate']['policy']['rules'])} rules, by digest."
    for given in document["predicate"].get("approvals", ()):
        name = f"approvals/{subjects['evidence']}/{given['payload']}.dsse.json"
        yield _signed("approval", given["payload"], _opened(ledger, keyring, name, APPROVAL, "approver"))
    made = payload_id(document)
    yield _signed("decision", made, _opened(ledger, keyring, f"decisions/{made}.dsse.json", "decision", "evaluator"))


def _datasets(name: str, digest: str, ledger: Ledger) -> Iterator[Link]:
    """A dataset and its ancestors, the oldest first."""
    if not digest:
        yield name, "", "not_measured", "The evidence names none."
        return
    try:
        found = ancestry(ledger, digest)
    except AssayError as error:
        yield name, digest, "misses", str(error)
        return
    for each, manifest in reversed(found.items()):
        if manifest is None:
            yield name, each, "not_measured", "The ledger does not hold its manifest."
        else:
            yield f"{name}, {manifest.history.step}", each, "holds", _told(manifest)


def _told(manifest: Manifest) -> str:
    shares = manifest.history.sources
    removed = sum(sum(reasons.values()) for reasons in manifest.history.removed.values())
    unsigned = sum(not share.uploader for share in shares)
    batches = ", ".join(f"{share.source}/{share.batch}" for share in shares[:8]) + (", ..." if len(shares) > 8 else "")
    return (
        f"{manifest.content.records} records of {len(shares)} batch(es) ({batches}), {unsigned} of them unsigned; "
        f"{removed} records taken out by this step."
    )


def _opened(ledger: Ledger, keyring: Keyring, name: str, kind: str, role: Role) -> Opened | str:
    try:
        return unseal(ledger.get(name), keyring, kind=kind, role=role, where=name)
    except AssayError as error:
        return str(error)


def _signed(name: str, digest: str, opened: Opened | str) -> Link:
    if isinstance(opened, str):
        return name, digest, "unclear", f"Not verified: {opened}"
    keys = ", ".join(key[:12] for key in opened.keyids)
    return name, digest, "holds", f"Signed by key {keys} (assurance {opened.assurance})."


def _attempts(body: Mapping[str, Any], subjects: Mapping[str, str], workspace: Workspace) -> Markup:
    """Every measurement on this hold-out up to this one, what it had to show, and what came of it."""
    looked = body["attempt"]
    told = _decisions(workspace)
    confidence = float(body["policy"]["confidence"])
    rows = [
        (number, html.digest(evidence), f"{confidence_at(confidence, number):.5%}", told.get(evidence, "not known"))
        for number, evidence in enumerate([*looked["earlier"], subjects["evidence"]], 1)
    ]
    return html.section(
        "Attempts on this hold-out",
        html.table(["attempt", "evidence", "confidence asked", "decisions"], rows),
        lead=f"Attempt {looked['number']} of {looked['of']}. Over all of them together a model at a bar passes in at "
        f"most {(1 - confidence) / 2:.3%} of cases.",
    )


def _decisions(workspace: Workspace) -> dict[str, str]:
    """What was decided on each evidence, in the order of time."""
    names = workspace.ledger.names("decisions/")
    if len(names) > MOST_DECISIONS:
        return {}
    found: dict[str, list[tuple[datetime, str]]] = {}
    for name in names:
        opened = _opened(workspace.ledger, workspace.keyring, name, "decision", "evaluator")
        if isinstance(opened, str):
            continue
        evidence = {entry["name"]: entry["digest"]["sha256"] for entry in opened.statement["subject"]}["evidence"]
        when = datetime.fromisoformat(opened.predicate["run"]["decided_at"])
        found.setdefault(evidence, []).append((when, opened.predicate["decision"]))
    return {evidence: ", then ".join(word for _, word in sorted(words)) for evidence, words in found.items()}


def _check(document: Mapping[str, Any], subjects: Mapping[str, str]) -> Markup:
    ledger = '"${ASSAY_LEDGER:-.assay/ledger}'
    return html.section(
        "Check it yourself",
        html.command(f'assay verify {ledger}/decisions/{payload_id(document)}.dsse.json"'),
        html.command(f'assay verify {ledger}/evidence/{subjects["evidence"]}.dsse.json"'),
        html.command(f"assay trace evidence:{subjects['evidence']}"),
        lead="This page is a copy for reading; no decision reads it.",
    )
