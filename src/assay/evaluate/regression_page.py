"""The page of one evaluation of a model of quantities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from assay.data.files import write_file
from assay.evaluate.regression_measure import RegressionMeasured
from assay.evidence import Evidence
from assay.report import html

SHARES = (0.5, 0.9, 0.99, 1.0)

__all__ = ["write_regression_page"]


def write_regression_page(
    path: Path, evidence: Evidence, found: RegressionMeasured, champion: RegressionMeasured | None
) -> None:
    """Write the page whole.

    Args:
        path: of the HTML file.
        evidence: what was found.
        found: of every record.
        champion: the same of the model beside it, or None.
    """
    missed = [name for name, said in evidence.soundness.items() if said == "misses"]
    told = f"The measurement is not sound: {', '.join(missed)}." if missed else "Every check that ran holds."
    heads = ["under", *(f"largest of the best {share:.0%}" for share in SHARES)]
    rows = _quantiles(found, "") + (_quantiles(champion, "champion, ") if champion else [])
    facts = evidence.measured["regression"]
    text = html.page(
        "Evaluation of a regression",
        html.banner("holds" if evidence.sound else "misses", told),
        html.section(
            "Estimates",
            html.table(["estimate", "value", "records"], [(name, it, it.n) for name, it in evidence.estimates.items()]),
            lead="In units of the label. The worst case lies between what attacks found and what is proven. "
            "A difference to the champion is below 0 where the model is better.",
        ),
        html.section("Errors", html.table(heads, rows), lead="Of these records, without an interval."),
        html.section(
            "Bounds",
            html.facts(
                {
                    "largest error that counts": facts["largest_error"],
                    "Lipschitz bound": facts["lipschitz_bound"],
                    **{f"proof, {key}": how for key, how in facts["proof"].items()},
                    **{f"largest change found, {key}": value for key, value in facts["largest_change"].items()},
                }
            ),
        ),
        html.section("Soundness", html.table(["check", "said"], list(evidence.soundness.items()))),
        html.section("Subjects", html.facts({name: html.digest(value) for name, value in evidence.subjects.items()})),
        lead=f"{len(found.error)} records, intervals of {evidence.measured['confidence']:.0%} confidence.",
        kicker=f"evidence {evidence.id[:12]}",
    )
    write_file(path, text.encode())


def _quantiles(found: RegressionMeasured, whose: str) -> list[tuple[Any, ...]]:
    by = {"no attack": found.error, **{key: it.found for key, it in found.reached.items()}}
    return [(whose + name, *(float(np.quantile(each, share)) for share in SHARES)) for name, each in by.items()]
