"""Abuse of the gate itself: measurements that cannot be trusted, ledgers that were written to, policies made weaker.

Which case of the threat model is shown where is listed in the README beside this file.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from promotion_cases import FLOOR, TARGET, Candidate, evidence_about, policy

from assay import canonical
from assay.config.root import Target
from assay.errors import AssayError, UnfitInput
from assay.estimate import proportion
from assay.evidence import Evidence
from assay.gate.decide import ask, conclude
from assay.gate.power import least_passing
from assay.gate.verdict import Case
from assay.keyring import make_key
from assay.signing import seal, statement
from assay.workspace import Workspace

SOUND = policy(FLOOR, {"rule": "sound"})
CHECKS = (
    "finite_logits",
    "attacks_stay_inside",
    "two_passes_agree",
    "zero_gradient_share",
    "attack_self_test",
    "scale_invariance",
    "gradient_free_not_better",
    "accuracy_falls_with_epsilon",
    "chance_at_whole_box",
    "holdout_unseen",
)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("said", ["misses", "not_measured"])
def test_masked_noisy_or_detecting_models_never_pass(
    workspace: Workspace, tmp_path: Path, check: str, said: str
) -> None:
    """T17, T18, T19, T20: one check that misses rejects, whatever the numbers; one that did not run is not held."""
    soundness = dict.fromkeys(CHECKS, "holds") | {check: said}
    alone = {check: said}
    estimates = {"clean_accuracy": proportion(1000, 1000)}
    answer = Candidate(workspace, tmp_path / "a", soundness=soundness, estimates=estimates).gate(SOUND)
    assert answer["decision"] == ("reject" if said == "misses" else "promote")
    answer = Candidate(workspace, tmp_path / "b", soundness=alone, estimates=estimates).gate(SOUND)
    assert answer["decision"] == ("reject" if said == "misses" else "inconclusive")


@pytest.mark.parametrize("end", ["value", "low", "high", "confidence"])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), "0.99", None, True])
def test_a_number_that_is_none_is_no_evidence(end: str, number: Any) -> None:
    """T20: refused when read; no rule ever compares it."""
    document = evidence_about("a" * 64).to_statement()
    document["predicate"]["estimates"]["clean_accuracy"][end] = number
    with pytest.raises(UnfitInput):
        Evidence.from_statement(document)


def test_a_random_predictor_told_every_score_gains_little_and_passes_no_bar() -> None:
    """T22: mean gain of boosting on the four scores that are told, on 1,000 records, is below 2 points."""
    rng = np.random.default_rng(5)
    guesses = rng.integers(0, 2, size=(400, 4, 1000))
    truth = rng.integers(0, 2, size=(400, 1, 1000))
    signs = np.where((guesses == truth).mean(axis=2) > 0.5, 1, -1)
    votes = ((2 * guesses - 1) * signs[..., None]).sum(axis=1) + rng.uniform(-0.1, 0.1, (400, 1000))
    reached = ((votes > 0) == truth[:, 0]).sum(axis=1)
    assert reached.mean() / 1000 < 0.52
    assert not (reached >= least_passing(0.55, 1000, 0.95, 5)).any()


def test_a_new_history_of_the_same_records_buys_no_new_attempts(workspace: Workspace, tmp_path: Path) -> None:
    """T22: the same records under another manifest are the same hold-out."""
    numbers = []
    for each in "bcd":
        changes = {"subjects": {"holdout": each * 64}, "measured": {"seed": 0, "holdout_content": "f" * 64}}
        numbers.append(Candidate(workspace, tmp_path / each, **changes).gate()["attempt"]["number"])
    assert numbers == [1, 2, 3]


def test_evidence_answers_for_its_target_policy_and_model_alone(workspace: Workspace, tmp_path: Path) -> None:
    """T25: three decisions on one evidence, each bound to what it was about."""
    candidate = Candidate(workspace, tmp_path)
    made = [
        candidate.gate(rules, target=target)
        for rules, target in (
            (policy(), TARGET),
            (policy(FLOOR | {"value": 0.81}), TARGET),
            (policy(), Target(model="digits", alias="next")),
        )
    ]
    assert len({answer["decision_id"] for answer in made}) == 3
    assert len({answer["evidence_id"] for answer in made}) == 1


@pytest.mark.parametrize("setting", ["confidence", "attempts", "coarse_from", "valid_for_s", "accept_local_keys"])
def test_a_policy_made_weaker_is_another_policy(setting: str) -> None:
    """T26: every setting is in the digest that approvals, decisions and promotions name."""
    weaker = {
        "confidence": 0.51,
        "attempts": 10**6,
        "coarse_from": 10**6,
        "valid_for_s": 10**9,
        "accept_local_keys": False,
    }
    assert policy(FLOOR).digest != policy(FLOOR, **{setting: weaker[setting]}).digest


def test_endless_attempts_under_a_weaker_policy_still_spend_one_alpha() -> None:
    """T22, T26: raising `attempts` buys tries, not chances."""
    generous = policy(FLOOR, attempts=10**6, coarse_from=10**6)
    made = evidence_about("a" * 64, estimates={"clean_accuracy": proportion(850, 1000)})
    asked = Case(evidence=made, policy=generous, now=datetime.now(UTC), signed=True)
    assert conclude(ask(asked)) == "promote"
    assert conclude(ask(replace(asked, attempt=10_000))) != "promote"


def test_the_readme_names_tests_that_exist() -> None:
    here = Path(__file__).parent
    table = (here / "README.md").read_text()
    files = set(re.findall(r"`(?:tests/)?([\w/]+\.py)", table))
    every = "\n".join((here / name if "/" not in name else here.parent / name).read_text() for name in files)
    named = set(re.findall(r"::(test_\w+)(?!\w*\*)", table))  # test_t1_* is a kind of names; who lists it checks it
    assert len(named) > 10
    assert [name for name in named if f"def {name}(" not in every] == []


FOLDERS = st.sampled_from(["attempts", "approvals", "incidents"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def _plant(workspace: Workspace, folder: str, candidate: Candidate, data: bytes) -> Path:
    """Bytes under a name that the gate reads; somebody has write access to the store."""
    evidence = candidate.evidence.id
    name = {
        "attempts": f"attempts/{'b' * 64}/digits@champion/00000001.json",
        "approvals": f"approvals/{evidence}/{'0' * 64}.dsse.json",
        "incidents": f"incidents/{'0' * 64}.dsse.json",
    }[folder]
    path = Path(workspace.ledger_uri) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(folder=FOLDERS, data=st.binary(max_size=60) | json_values.map(canonical.dumps))
def test_whatever_lies_in_the_ledger_promotes_nothing_and_breaks_nothing(
    workspace: Workspace, tmp_path: Path, folder: str, data: bytes
) -> None:
    """A rule that asks for an approval stays unanswered; every error is one of assay's own."""
    shutil.rmtree(workspace.ledger_uri, ignore_errors=True)
    candidate = Candidate(workspace, tmp_path / "candidate")
    key = "e" * 64
    _plant(workspace, folder, candidate, data)
    try:
        answer = candidate.gate(policy(FLOOR, {"rule": "approved", "by": [key]}))
    except AssayError:
        return
    assert answer["decision"] != "promote"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    predicate=st.dictionaries(st.sampled_from(["target", "by", "run", "ref", "why"]), json_values),
    subjects=json_values,
    kind=st.sampled_from(["approval", "incident"]),
)
def test_nonsense_that_is_properly_signed_promotes_nothing(
    workspace: Workspace, tmp_path: Path, predicate: dict[str, Any], subjects: Any, kind: str
) -> None:
    shutil.rmtree(workspace.home, ignore_errors=True)
    candidate = Candidate(workspace, tmp_path / "candidate")
    key = make_key(tmp_path / f"{candidate.digest}-{len(list(tmp_path.iterdir()))}.pem", ["approver"])
    replace(workspace.keyring, keys=(*workspace.keyring.keys, key)).save(workspace.keyring_path)
    signer = replace(workspace, signer_uris={"approver": str(max(tmp_path.glob("*.pem"), key=_made))})
    document = statement(kind, {"model": "0" * 64}, predicate) | {"subject": [subjects]}
    _plant(workspace, f"{kind}s", candidate, seal(document, signer.signers("approver")))
    try:
        answer = candidate.gate(policy(FLOOR, {"rule": "approved", "by": [key.keyid]}))
    except AssayError:
        return
    assert answer["decision"] != "promote"


def _made(path: Path) -> int:
    return path.stat().st_mtime_ns
