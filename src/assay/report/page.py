"""The page about one run: the verdict first, then why, then how to check it without trusting this page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from markupsafe import Markup

from assay.data.files import write_file
from assay.estimate import Estimate
from assay.report import html
from assay.report.custody import Link, broken, chain
from assay.report.facts import Facts, gather
from assay.report.inputs import ReportInputs
from assay.report.model_sections import measured_section, model_section, rules_section, soundness_section
from assay.report.records_sections import filter_section, records_section, removed_counts
from assay.workspace import Workspace

LEDGER = '"${ASSAY_LEDGER:-.assay/ledger}'
CONTENTS = {
    "gate": "Gate",
    "records": "Records",
    "filter": "Poison filter",
    "model": "Model",
    "soundness": "Soundness",
    "custody": "Chain of custody",
    "check": "Check it yourself",
}
SECTIONS: tuple[Callable[[Facts], Markup], ...] = (
    rules_section,
    records_section,
    filter_section,
    model_section,
    soundness_section,
    measured_section,
)

__all__ = ["ReportInputs", "render", "write_report"]


def write_report(
    inputs: ReportInputs,
    out: Path | str,
    *,
    title: str = "",
    run: str = "",
    workspace: Workspace | None = None,
) -> None:
    """Write the page about a run; equal inputs give equal bytes.

    Args:
        inputs: files of the run; what is missing or broken is said to be so.
        out: the HTML file to write, whole.
        title: heading; by default the target of the decision.
        run: id of the run, shown above the heading.
        workspace: whose keyring verifies signatures, and whose ledger names the version; by default the environment's.
    """
    facts = gather(inputs, workspace or Workspace.from_env())
    write_file(out, render(facts, title=title, run=run).encode())


def render(facts: Facts, *, title: str = "", run: str = "") -> str:
    """The page as text."""
    links = chain(facts)
    return html.page(
        title or _title(facts),
        _verdict(facts, links),
        _tiles(facts),
        html.contents(CONTENTS),
        *_problems(facts),
        *(_section(build, facts) for build in SECTIONS),
        _custody(facts, links),
        _check(facts),
        kicker=f"assay report, run {run}" if run else "assay report",
    )


def _section(build: Callable[[Facts], Markup], facts: Facts) -> Markup:
    """A section, or why there is none: a file of an odd shape must not take the rest of the page with it."""
    try:
        return build(facts)
    except Exception as error:  # whatever an unsigned file from outside can provoke
        name = build.__name__.removesuffix("_section")
        return html.section(name, html.missing(name, f"It could not be shown: {type(error).__name__}: {error}"))


def _title(facts: Facts) -> str:
    decision = facts.decision.value
    return f"{decision.body.target[0]}@{decision.body.target[1]}" if decision else "A run"


def _verdict(facts: Facts, links: list[Link]) -> Markup:
    """The decision, unless something about it does not hold: then that comes first."""
    decision = facts.decision.value
    if decision is None:
        return html.banner("no decision", f"{facts.decision.why} Nothing here promotes a model.", "unsure")
    word = decision.body.word
    if not decision.verified:
        return html.banner(
            "not verified", f"The decision says {word}, but: {decision.doubt}", "bad" if decision.signed else "unsure"
        )
    gaps = broken(links)
    if gaps:
        told = " ".join(f"{link.name.capitalize()}: {link.says}" for link in gaps)
        return html.banner(
            "chain broken", f"The decision says {word}, but the chain of custody does not hold. {told}", "bad"
        )
    if word == "promote" and any(rule.required and rule.verdict != "holds" for rule in decision.body.rules):
        return html.banner("not coherent", "The decision says promote, but not all of its required rules hold.", "bad")
    return html.banner(word, f"{_why(facts)} {_outcome(facts)}".strip())


def _why(facts: Facts) -> str:
    decision = facts.decision.value
    if decision is None:
        return ""
    required = [rule for rule in decision.body.rules if rule.required]
    if decision.body.word == "promote":
        return f"All {len(required)} required rules hold."
    reject = decision.body.word == "reject"
    failing = decision.body.said(*(("misses",) if reject else ("unclear", "not_measured")))
    names = ", ".join(f"{rule.about} {rule.need}".strip() for rule in failing)
    said = "missed" if reject else "unclear or not measured"
    return f"{len(failing)} of {len(required)} required rules {said}{f': {names}' if names else ''}."


def _outcome(facts: Facts) -> str:
    decision, promotion = facts.decision.value, facts.promotion.value
    if decision is None or decision.body.word != "promote":
        return "Nothing was promoted."
    model, alias = decision.body.target
    if promotion is None:
        return f"Whether {model}@{alias} was moved is not part of this page."
    return f"{model} {f'version {facts.version} ' if facts.version else ''}has the alias {alias}."


def _tiles(facts: Facts) -> Markup:
    evidence, decision = facts.evidence.value, facts.decision.value
    measured = {**(evidence.body.estimates if evidence else {}), **facts.extra}
    asked = [rule.about for rule in decision.body.rules] if decision else []
    estimates = {name: measured[name] for name in dict.fromkeys([*asked, *measured]) if name in measured}
    robust = [name for name in estimates if name.startswith("robust_accuracy/") and name.count("/") == 1]
    backdoor = [name for name in estimates if name.startswith("backdoor_success")]
    shown = [name for name in ("clean_accuracy", *robust[:2], *backdoor[:2]) if name in estimates]
    tiles = {name.replace("_", " ").replace("/", " "): _tile(estimates[name]) for name in shown if estimates[name].n}
    if facts.dataset.value is not None:
        tiles["records quarantined"] = _removals(facts)
    return html.tiles(tiles)


def _tile(value: Estimate) -> tuple[str, str]:
    return f"{value.value:.1%}", f"{value.low:.1%} to {value.high:.1%}, n={value.n}"


def _removals(facts: Facts) -> tuple[str, str]:
    lost: Counter[str] = Counter()
    for (source, _, _), count in sorted(removed_counts(facts).items()):
        lost[source] += count
    worst = lost.most_common(1)
    return f"{lost.total():,}", f"most from {worst[0][0]}: {worst[0][1]}" if worst else "none"


def _problems(facts: Facts) -> list[Markup]:
    return [
        html.missing(name.replace("_", " "), f"It could not be read: {why}") for name, why in facts.problems.items()
    ]


def _custody(facts: Facts, links: list[Link]) -> Markup:
    first = facts.dataset.value
    batches = [
        (f"{share.source}/{share.batch}", share.trust, share.records, html.digest(share.sha256), share.uploader or None)
        for share in (first.manifest.history.sources if first else ())
    ]
    return html.section(
        "Chain of custody",
        html.table(["batch", "trust", "records", "SHA-256 of the delivered file", "uploader's key"], batches),
        html.steps([(link.name, link.digest, link.verdict, link.says) for link in links]),
        lead="Each digest names exact bytes. The links were checked again when this page was written.",
        anchor="custody",
    )


def _check(facts: Facts) -> Markup:
    places = (("evidence", "evidence"), ("decision", "decisions"))
    verify = []
    for name, folder in places:
        sealed = getattr(facts, name).value
        verify += [f'assay verify {LEDGER}/{folder}/{sealed.id}.dsse.json"'] if sealed else []
    evidence = facts.evidence.value
    refs = []
    if facts.version and facts.decision.value:
        refs.append(f"model:{facts.decision.value.body.target[0]}/{facts.version}")
    if evidence and evidence.subjects.get("dataset"):
        refs.append(f"dataset:{evidence.subjects['dataset']}")
    refs += [f"source:{source}" for source in sorted({source for source, *_ in removed_counts(facts)})]
    tracking = 'mlflow ui --backend-store-uri "${MLFLOW_TRACKING_URI:-sqlite:///.assay/mlflow.db}"'
    return html.section(
        "Check it yourself",
        html.paragraph("Signatures and digests of what this page rests on:"),
        *[html.command(line) for line in verify],
        html.paragraph("What learned from which records, both ways:"),
        *[html.command(f"assay trace {ref}") for ref in refs],
        html.paragraph("The same lineage in MLflow (where a tracking server is set, open that instead):"),
        html.command(tracking),
        lead="This page is a copy for reading. The ledger is the truth, and no decision reads this page.",
        anchor="check",
    )
