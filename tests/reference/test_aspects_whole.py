"""All aspects together, as docs/certify.md configures them, on images; and the rules it shows."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from aspect_cases import SPEC, held
from evaluate_cases import dataset, digits, trained

from assay import catalog
from assay.config.base import parse
from assay.config.evaluate import EvaluateConfig
from assay.config.gate import PolicyConfig
from assay.errors import UnfitInput, UnknownName
from assay.evaluate.look import FAMILY
from assay.evaluate.step import evaluate
from assay.evidence import Evidence
from assay.gate.decide import ask
from assay.gate.verdict import Case
from assay.models.assemble import assemble
from assay.models.folder import save_model
from assay.models.spec import Architecture
from assay.signing import unseal
from assay.workspace import Workspace

PAGE = (Path(__file__).parents[2] / "docs" / "certify.md").read_text()
SHOWN = [yaml.safe_load(text) for text in re.findall(r"^```yaml\n(.*?)^```", PAGE, re.M | re.S)]
SETTINGS = {
    "confusions": {"pairs": [["1", "0"]]},
    "conformal": {"fit_on": "x"},
    "squeezing": {"fit_on": "x"},
    "disagreement": {"fit_on": "x", "models": ["y"]},
}


def folders(where: Path, records: int = 120) -> dict[str, Path]:
    """A network that reads digits, a hold-out and the sets that the page names, all of other records."""
    parts = {"holdout": (0, records), "calibration": (180, 300), "night-shots": (120, 180), "other-camera": (300, 360)}
    for name, (start, end) in parts.items():
        held(start, end, name).dataset.save(where / name)
    module = assemble(SPEC)
    module.load_state_dict(trained("mlp").state_dict())
    save_model(where / "model", module, SPEC, digits()[0][:4].numpy())
    other = SPEC.model_copy(update={"architecture": Architecture(name="linear")})
    save_model(where / "other-model", trained("linear"), other, digits()[0][:4].numpy())
    return {name: where / name for name in (*parts, "model")}


def test_the_page_lists_every_aspect_and_configures_it() -> None:
    names = catalog.names(FAMILY)
    assert sorted(SHOWN[0]["evaluate"]["aspects"]) == names
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.M) == list(SHOWN[0]["evaluate"]["aspects"])


@pytest.mark.parametrize("name", catalog.names(FAMILY))
def test_every_aspect_is_a_member_that_refuses_what_it_does_not_know(name: str) -> None:
    given = SETTINGS.get(name, {})
    built = catalog.build(FAMILY, name, given)
    assert catalog.build(FAMILY, name, catalog.settings(built)) == built, "settings are the whole configuration"
    with pytest.raises(UnknownName):
        catalog.build(FAMILY, name, {**given, "unheard_of": 1})


@pytest.mark.slow
def test_what_the_page_configures_is_measured_signed_shown_and_asked_for(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.initialise()
    where = folders(tmp_path)
    monkeypatch.chdir(tmp_path)
    short = {"attacks": {"pgd": {"steps": 10, "restarts": 1}}}
    config = parse(EvaluateConfig, SHOWN[0]["evaluate"] | short, "evaluate")
    documents = []
    for name in ("first", "second"):
        places = {part: tmp_path / f"{name}.{part}" for part in ("evidence", "outcomes", "page")}
        documents.append(evaluate(where["model"], where["holdout"], config, **places))
    assert documents[0]["evidence_id"] == documents[1]["evidence_id"], "the same inputs and seed"
    opened = unseal((tmp_path / "first.evidence").read_bytes(), workspace.keyring, kind="evidence", role="evaluator")
    made = Evidence.from_statement(opened.statement)
    said = {start for name in made.estimates for start in [re.split(r"[\[/]", name)[0]]}
    listed = set(re.findall(r"`([a-z_0-9]+)(?:\[[^`]*)?(?:/[^`]*)?`", "".join(re.findall(r"^\| `.*$", PAGE, re.M))))
    assert {"calibration_error", "confused", "corrupted_accuracy", "ood_auroc", "conformal_coverage"} <= said & listed
    assert {name for name, verdict in made.soundness.items() if verdict == "misses"} == set()
    assert {f"{name}_unseen" for name in ("trusted", "canaries", "elsewhere")} <= set(made.soundness)
    page = (tmp_path / "first.page").read_text()
    for title in ("Calibration", "Confusions", "Certificates", "Randomized smoothing", "Common corruptions"):
        assert f">{title}<" in page
    assert "<script" not in page
    policy = PolicyConfig(rules=tuple(SHOWN[1]["rules"]))
    case = Case(evidence=made, policy=policy, now=datetime.now(UTC), signed=True)
    verdicts = {answer["rule"]: answer["verdict"] for answer in ask(case)}
    for rule in ("certified_at_least", "calibration", "never_confuse", "worst_slice"):
        assert verdicts[rule] != "not_measured", rule


def test_a_wrong_set_is_refused_before_anything_is_measured(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.initialise()
    where = folders(tmp_path, 30)
    places = {part: tmp_path / part for part in ("evidence", "outcomes")}
    monkeypatch.setattr("assay.evaluate.measured.measure", lambda *_, **__: pytest.fail("it was measured"))
    for name, path, fault in (("trusted", tmp_path / "none", "none"), ("others", where["calibration"], "trusted")):
        config = EvaluateConfig(sets={name: str(path)}, aspects={"conformal": {"fit_on": "trusted"}})
        with pytest.raises(UnfitInput, match=fault):
            evaluate(where["model"], where["holdout"], config, **places)
    assert not places["evidence"].exists()
    with pytest.raises(UnfitInput, match="text of the form"):
        parse(EvaluateConfig, {"sets": {"not a name": "x"}}, "evaluate")


def test_records_that_the_model_cannot_take_are_refused(tmp_path: Path, workspace: Workspace) -> None:
    workspace.initialise()
    where = folders(tmp_path, 30)
    for name, x in (("flat", np.zeros((5, 64), np.float32)), ("bright", np.full((5, 8, 8), 2, np.float32))):
        dataset(x, np.zeros(5, np.int64), name).save(tmp_path / name)
        config = EvaluateConfig(sets={name: str(tmp_path / name)})
        with pytest.raises(UnfitInput, match=r"box|input"):
            evaluate(where["model"], where["holdout"], config, evidence=tmp_path / "e", outcomes=tmp_path / "o")
