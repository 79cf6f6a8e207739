"""``assay gate``: a policy applied to one evidence envelope."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from assay.cli._shared import Json, answer, leave

Form = Literal["text", "markdown", "json"]


def command(
    evidence: Annotated[Path | None, typer.Argument(help="The envelope written by evaluate.")] = None,
    policy: Annotated[Path | None, typer.Option(help="The policy, in YAML.")] = None,
    target: Annotated[str, typer.Option(help="MODEL@ALIAS that the model would be promoted to.")] = "model@champion",
    out: Annotated[
        Path | None, typer.Option(help="The decision to write; default decision.dsse.json beside the evidence.")
    ] = None,
    summary: Annotated[Path | None, typer.Option(help="A Markdown page to write.")] = None,
    page: Annotated[
        Path | None, typer.Option(help="An HTML page to write: verdict, intervals, custody, attempts.")
    ] = None,
    form: Annotated[
        Form, typer.Option("--format", help="Of the answer on standard output; markdown suits a pull request.")
    ] = "text",
    run: Annotated[str, typer.Option(help="Id of the pipeline run.")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="List every rule a policy may use, and leave.")] = False,
    json: Json = False,
) -> None:
    """Decide on signed evidence: promote (exit 0), reject (1) or inconclusive (3)."""
    from assay.gate.decide import EXIT_CODES
    from assay.gate.explain import explanation, explanation_lines
    from assay.gate.summary import lines

    if explain:
        document = explanation()
        answer(document, json, explanation_lines(document))
        return
    if evidence is None or policy is None:
        raise typer.BadParameter("EVIDENCE and --policy FILE are needed (or --explain)")
    pages = {"summary": summary, "page": page}
    document, said = _decide(evidence, policy, target, out or evidence.parent / "decision.dsse.json", pages, run)
    answer(document, json or form == "json", [said] if form == "markdown" else lines(document))
    leave(EXIT_CODES[document["decision"]])


def _decide(
    evidence: Path, policy: Path, target: str, out: Path, pages: dict[str, Path | None], run: str
) -> tuple[dict[str, Any], str]:
    """What the gate answered, and its decision as Markdown."""
    from assay.config.gate import PolicyConfig
    from assay.data.files import require_places
    from assay.gate.step import gate
    from assay.gate.summary import markdown
    from assay.promotions import target_of
    from assay.signing import peek

    require_places(out, *pages.values())
    rules = PolicyConfig.load(policy)
    document = gate(evidence, rules, target=target_of(target), decision=out, run=run, **pages)
    return document, markdown(peek(out.read_bytes(), str(out))).rstrip()
