"""A decision for people: the page, the Markdown of a pull request, and what they say would change the verdict."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from lineage_cases import dataset
from promotion_cases import FLOOR, Candidate, policy
from test_gate_approvals import Case as Waiting

from assay import lineage
from assay.cli.main import run
from assay.gate.summary import changes, markdown
from assay.signing import peek
from assay.workspace import Workspace


def text(page: Path) -> str:
    """What a reader sees: no tags, no styles."""
    whole = re.sub(r"<(style|desc|title).*?</\1>", " ", page.read_text(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", whole).split())


def predicate(candidate: Candidate) -> dict[str, Any]:
    return dict(peek(candidate.decision_path.read_bytes())["predicate"])


@pytest.fixture
def candidate(workspace: Workspace, tmp_path: Path) -> Candidate:
    """A model that learned from records of two batches which the ledger knows."""
    trained, holdout = dataset({"vendor/7": 8, "friend/1": 8}), dataset({"ours/1": 8}, role="holdout")
    for each in (trained, holdout):
        lineage.put_dataset(workspace.ledger, each)
    subjects = {"dataset": trained.manifest.digest, "holdout": holdout.manifest.digest}
    return Candidate(workspace, tmp_path / "candidate", subjects=subjects)


def test_the_page_has_the_verdict_first_and_the_chain_from_batch_to_decision(
    candidate: Candidate, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    answer = candidate.gate(page=page)
    seen = text(page)
    places = [seen.index(word) for word in ("promote", "Rules", "What would change it", "Chain of custody", "Attempts")]
    assert places == sorted(places)
    for word in ("vendor/7", "friend/1", "ours/1", answer["evidence_id"], answer["decision_id"], candidate.digest):
        assert word in seen
    assert "<svg" in page.read_text()
    assert "Not verified" not in seen
    assert "<script" not in page.read_text()


def test_a_link_that_does_not_hold_is_shown_as_such(candidate: Candidate, tmp_path: Path) -> None:
    other = Candidate(candidate.workspace, tmp_path / "other", weights=b"other")  # records nobody knows
    page = tmp_path / "page.html"
    other.gate(page=page)
    assert "The ledger does not hold its manifest" in text(page)


def test_the_page_names_every_attempt_and_what_came_of_it(candidate: Candidate, tmp_path: Path) -> None:
    holdout = candidate.evidence.subjects["holdout"]
    first = candidate.gate(policy(FLOOR | {"value": 0.99}))
    last = Candidate(candidate.workspace, tmp_path / "b", weights=b"b", subjects={"holdout": holdout})
    answer = last.gate(page=tmp_path / "page.html")
    seen = text(tmp_path / "page.html")
    assert answer["attempt"]["number"] == 2
    assert "Attempt 2 of 500" in seen
    assert first["evidence_id"] in seen
    assert seen.index(first["evidence_id"]) < seen.index("reject", seen.index("Attempts on this hold-out"))


def test_a_late_attempt_shows_no_number_on_page_or_summary(candidate: Candidate, tmp_path: Path) -> None:
    page, summary = tmp_path / "page.html", tmp_path / "summary.md"
    candidate.gate(policy(FLOOR, coarse_from=1), page=page, summary=summary)
    for shown in (text(page), summary.read_text()):
        assert "not told at attempt 1" in shown
        assert "0.930" not in shown


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (FLOOR, "Nothing has to change"),
        (FLOOR | {"value": 0.99}, "Only another model"),
        (FLOOR | {"value": 0.92}, "would settle it"),
        (FLOOR | {"estimate": "other"}, "has to be measured: no such estimate"),
    ],
)
def test_what_would_change_the_verdict_is_said(candidate: Candidate, rule: dict[str, Any], told: str) -> None:
    candidate.gate(policy(rule))
    body = predicate(candidate)
    assert any(told in line for line in changes(body))
    assert told.replace("_", "\\_") in markdown(peek(candidate.decision_path.read_bytes()))


def test_a_decision_that_waits_says_so_and_then_who_approved(workspace: Workspace, tmp_path: Path) -> None:
    waiting = Waiting(workspace, tmp_path, count=1)
    waiting.gate()
    assert any("waiting for 1 more" in line for line in changes(predicate(waiting.candidate)))
    waiting.approve("ann")
    waiting.gate(page=tmp_path / "page.html")
    seen = text(tmp_path / "page.html")
    assert seen.count(waiting.keys["ann"].keyid[:12]) == 1
    assert waiting.keys["ann"].keyid in markdown(peek(waiting.candidate.decision_path.read_bytes()))


def test_names_from_the_evidence_stay_text(candidate: Candidate, tmp_path: Path) -> None:
    evil = Candidate(candidate.workspace, tmp_path / "evil", soundness={"<script>alert(1)</script>": "misses"})
    page, summary = tmp_path / "page.html", tmp_path / "summary.md"
    evil.gate(policy(FLOOR, {"rule": "sound"}), page=page, summary=summary)
    for shown in (page.read_text(), summary.read_text()):
        assert "<script>" not in shown
        assert "alert(1)" in shown


def test_the_verb_writes_markdown_for_a_pull_request(
    candidate: Candidate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "policy.yaml"
    rules.write_text(yaml.safe_dump({"rules": [FLOOR | {"value": 0.92}]}))
    arguments = ["gate", str(candidate.evidence_path), "--policy", str(rules), "--target", "digits@champion"]
    code = run([*arguments, "--format", "markdown", "--page", str(tmp_path / "page.html")])
    out, err = capsys.readouterr()
    assert (code, out.splitlines()[0], err) == (3, "# Inconclusive", "")
    assert out.strip() == markdown(peek(candidate.decision_path.read_bytes())).strip()
    assert (tmp_path / "page.html").is_file()
    assert run([*arguments, "--format", "json"]) == 3
    assert capsys.readouterr().out.startswith('{"decision": "inconclusive"')
    assert run([*arguments, "--format", "html"]) == 2
