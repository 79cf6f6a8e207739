"""Evidence: one id for one measurement, read back as it was written, refused in any other shape."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay import canonical
from assay.errors import Refused, UnfitInput
from assay.estimate import proportion
from assay.evidence import Evidence, payload_id, robust
from assay.keyring import Keyring, load_signer, make_key
from assay.signing import seal, unseal
from assay.threat import ThreatModel

THREAT = ThreatModel(epsilon=0.1)
EVIDENCE = Evidence(
    subjects={"model": "a" * 64, "holdout": "b" * 64, "dataset": "c" * 64},
    estimates={"clean_accuracy": proportion(340, 360), robust("robust_accuracy", THREAT): proportion(290, 360)},
    measured={"threats": {THREAT.key: THREAT.to_json()}, "seed": 0},
    soundness={"finite_logits": "holds", "holdout_unseen": "not_measured"},
    run={"run_id": "r1", "ended": "2026-11-21T10:00:00+00:00"},
)


def test_evidence_is_read_back_as_it_was_written() -> None:
    document = canonical.loads(canonical.dumps(EVIDENCE.to_statement()))
    assert Evidence.from_statement(document) == EVIDENCE
    assert Evidence.from_statement(document).id == EVIDENCE.id == payload_id(document)


@given(run=st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers(0, 9) | st.floats(0, 1), max_size=4))
def test_the_id_leaves_out_the_run_and_nothing_else(run: dict[str, Any]) -> None:
    assert replace(EVIDENCE, run=run).id == EVIDENCE.id


@pytest.mark.parametrize(
    "change",
    [
        {"subjects": EVIDENCE.subjects | {"model": "d" * 64}},
        {"estimates": EVIDENCE.estimates | {"clean_accuracy": proportion(341, 360)}},
        {"measured": EVIDENCE.measured | {"seed": 1}},
        {"soundness": EVIDENCE.soundness | {"finite_logits": "misses"}},
        {"truncated": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_other_difference_gives_another_id(change: dict[str, Any]) -> None:
    assert replace(EVIDENCE, **change).id != EVIDENCE.id


def test_estimates_of_two_threats_have_two_names() -> None:
    threats = [ThreatModel(epsilon=0.1), ThreatModel(epsilon=0.2), ThreatModel(norm="l2", epsilon=0.1)]
    threats += [ThreatModel(epsilon=0.1, bounds=(-1, 1)), ThreatModel(epsilon=0.1, goal="targeted")]
    assert len({robust("robust_accuracy", threat) for threat in threats}) == len(threats)
    assert robust("robust_accuracy", THREAT) == "robust_accuracy/linf:0.1"


@pytest.mark.parametrize(
    ("soundness", "sound"),
    [
        ({}, False),
        ({"a": "not_measured"}, False),
        ({"a": "holds"}, True),
        ({"a": "holds", "b": "not_measured"}, True),
        ({"a": "holds", "b": "misses"}, False),
    ],
)
def test_sound_means_that_a_check_held_and_none_missed(soundness: dict[str, str], sound: bool) -> None:
    assert replace(EVIDENCE, soundness=soundness).sound is sound


def broken(*path: Any, value: Any = None) -> dict[str, Any]:
    """The statement with one place changed, or removed when no value is given."""
    document: Any = deepcopy(EVIDENCE.to_statement())
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return dict(document)


@pytest.mark.parametrize("name", ["estimates", "measured", "soundness", "truncated", "run"])
def test_a_predicate_that_lacks_a_part_is_refused(name: str) -> None:
    with pytest.raises(UnfitInput, match=name):
        Evidence.from_statement(broken("predicate", name))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("subject", 0, "digest"), {"md5": "0"}),
        (("subject", 0, "name"), "model"),
        (("predicate", "estimates", "clean_accuracy", "low"), math.nan),
        (("predicate", "estimates", "clean_accuracy", "low"), True),
        (("predicate", "estimates", "clean_accuracy", "extra"), 1),
        (("predicate", "estimates", "clean_accuracy"), 0.94),
        (("predicate", "soundness", "finite_logits"), "maybe"),
        (("predicate", "soundness"), ["holds"]),
        (("predicate", "truncated"), "false"),
        (("predicate", "measured"), "much"),
    ],
    ids=lambda part: "-".join(map(str, part)) if isinstance(part, tuple) else str(part),
)
def test_evidence_of_another_shape_is_refused(path: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(UnfitInput):
        Evidence.from_statement(broken(*path, value=value))


def test_evidence_survives_its_envelope_and_a_changed_byte_does_not(tmp_path: Any) -> None:
    entry = make_key(tmp_path / "evaluator.pem", ["evaluator"])
    data = seal(EVIDENCE.to_statement(), [load_signer(str(tmp_path / "evaluator.pem"))])
    keyring = Keyring((entry,))
    opened = unseal(data, keyring, kind="evidence", role="evaluator")
    assert Evidence.from_statement(opened.statement) == EVIDENCE
    with pytest.raises(Refused):
        unseal(data, keyring, kind="evidence", role="promoter")
    envelope = canonical.loads(data)
    envelope["payload"] = envelope["payload"].replace("a", "b", 1)
    with pytest.raises(Refused):
        unseal(canonical.dumps(envelope), keyring, kind="evidence", role="evaluator")


def test_what_lies_behind_evidence_is_what_it_names_and_its_sets() -> None:
    sets = {"canaries": {"manifest": "d" * 64, "records": 3}, "again": {"manifest": "b" * 64}}
    made = replace(EVIDENCE, measured=EVIDENCE.measured | {"sets": sets})
    assert made.data == EVIDENCE.data == EVIDENCE.datasets == ("c" * 64, "b" * 64), "as before there were sets"
    assert made.sets == {"canaries": "d" * 64, "again": "b" * 64}
    assert made.datasets == ("c" * 64, "b" * 64, "d" * 64)


@pytest.mark.parametrize("sets", [["d" * 64], "d", {"a": "d" * 64}, {"a": {}}, {"a": {"manifest": "../x"}}, 7])
def test_sets_of_another_form_are_refused_where_somebody_asks(sets: Any) -> None:
    made = replace(EVIDENCE, measured=EVIDENCE.measured | {"sets": sets})
    with pytest.raises(UnfitInput, match="evidence"):
        _ = made.datasets
