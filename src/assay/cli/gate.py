"""``assay gate``: a policy applied to one evidence envelope."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli._shared import Json, answer, leave


def command(
    evidence: Annotated[Path | None, typer.Argument(help="The envelope written by evaluate.")] = None,
    policy: Annotated[Path | None, typer.Option(help="The policy, in YAML.")] = None,
    target: Annotated[str, typer.Option(help="MODEL@ALIAS that the model would be promoted to.")] = "model@champion",
    out: Annotated[
        Path | None, typer.Option(help="The decision to write; default decision.dsse.json beside the evidence.")
    ] = None,
    summary: Annotated[Path | None, typer.Option(help="A Markdown page to write.")] = None,
    run: Annotated[str, typer.Option(help="Id of the pipeline run.")] = "",
    explain: Annotated[bool, typer.Option("--explain", help="List every rule a policy may use, and leave.")] = False,
    json: Json = False,
) -> None:
    """Decide on signed evidence: promote (exit 0), reject (1) or inconclusive (3)."""
    from assay.gate.explain import explanation, explanation_lines

    if explain:
        document = explanation()
        answer(document, json, explanation_lines(document))
        return
    _decide(evidence, policy, target, out, summary, run, json)


def _decide(
    evidence: Path | None,
    policy: Path | None,
    target: str,
    out: Path | None,
    summary: Path | None,
    run: str,
    json: bool,
) -> None:
    from assay.config.gate import PolicyConfig
    from assay.gate.decide import EXIT_CODES
    from assay.gate.step import gate
    from assay.gate.summary import lines
    from assay.promotions import target_of

    if evidence is None or policy is None:
        raise typer.BadParameter("EVIDENCE and --policy FILE are needed (or --explain)")
    document: dict[str, Any] = gate(
        evidence,
        PolicyConfig.load(policy),
        target=target_of(target),
        decision=out or evidence.parent / "decision.dsse.json",
        summary=summary,
        run=run,
    )
    answer(document, json, lines(document))
    leave(EXIT_CODES[document["decision"]])
