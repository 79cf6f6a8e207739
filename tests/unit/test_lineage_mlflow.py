"""What MLflow shows of a run, on a real SQLite store."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lineage_cases import by_step, client, dataset, outbox, record_step, runs
from promotion_cases import with_store

from assay import canonical, lineage
from assay.errors import UnfitInput
from assay.workspace import Workspace


@pytest.fixture(autouse=True)
def _store(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_store(workspace)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


def test_repeated_steps_show_as_one_parent_and_one_nested_run_each(workspace: Workspace) -> None:
    for _ in range(2):
        record_step("ingest", "r1", dataset({"a/b": 4}))
        record_step("train", "r1")
    found = by_step(runs(workspace))
    assert set(found) == {"", "ingest", "train"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    parent = found.pop("").info.run_id
    assert {run.data.tags["mlflow.parentRunId"] for run in found.values()} == {parent}
    assert found["train"].data.params == {"epochs": "3"}
    assert len(client(workspace).get_metric_history(found["train"].info.run_id, "accuracy")) >= 1


def test_runs_carry_the_true_times_and_the_run_id(workspace: Workspace) -> None:
    record_step("ingest", "r1")
    found = by_step(runs(workspace))
    assert all(run.data.tags["assay.run"] == "r1" for run in found.values())
    assert found["ingest"].info.start_time <= found["ingest"].info.end_time <= found[""].info.end_time


def test_two_runs_do_not_mix(workspace: Workspace) -> None:
    record_step("ingest", "r1")
    record_step("ingest", "r2")
    assert len(runs(workspace)) == 4


def test_a_failed_step_fails_the_parent_until_it_succeeds(workspace: Workspace) -> None:
    record_step("ingest", "r1")
    with pytest.raises(UnfitInput), lineage.step("train", "r1"):
        raise UnfitInput("label", "text")
    failed = by_step(runs(workspace))
    assert (failed[""].info.status, failed["train"].info.status) == ("FAILED", "FAILED")
    assert failed["train"].data.tags["assay.error"].startswith("UnfitInput: label")
    record_step("train", "r1")
    mended = by_step(runs(workspace))
    assert {run.info.status for run in mended.values()} == {"FINISHED"}
    assert mended["train"].info.run_id == failed["train"].info.run_id


def test_a_given_run_is_logged_into_and_not_ended(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = client(workspace)
    given = asked.create_run(asked.create_experiment("theirs")).info.run_id
    asked.log_param(given, "epochs", "theirs")
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    record_step("train", "r1", dataset({"a/b": 4}))
    record_step("evaluate", "")
    assert os.environ["MLFLOW_RUN_ID"] == given
    (run,) = runs(workspace)
    assert run.info.status == "RUNNING"
    assert run.data.params == {"epochs": "theirs", "train.epochs": "3", "evaluate.epochs": "3"}
    assert run.data.tags["assay.status.train"] == run.data.tags["assay.status.evaluate"] == "FINISHED"


def test_the_experiment_that_the_environment_names_is_used(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    record_step("ingest", "r1")
    asked = client(workspace)
    named = asked.get_experiment_by_name("theirs").experiment_id
    assert {run.info.experiment_id for run in runs(workspace)} == {named}
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", asked.create_experiment("by-id"))
    record_step("ingest", "r2")
    assert len({run.info.experiment_id for run in runs(workspace)}) == 2


def test_a_flipped_label_beyond_row_10000_changes_the_logged_digest(workspace: Workspace) -> None:
    """MLflow's own digest looks at the first 10,000 rows."""
    digests = []
    for run, flip in (("r1", None), ("r2", 11_000)):
        made = dataset({"a/b": 12_000}, flip=flip)
        record_step("ingest", run, made)
        logged = by_step([found for found in runs(workspace) if found.data.tags["assay.run"] == run])["ingest"]
        (shown,) = logged.inputs.dataset_inputs
        assert shown.dataset.digest == made.manifest.digest[:32]
        assert logged.data.tags["assay.dataset.training"] == made.manifest.digest
        digests.append(shown.dataset.digest)
    assert digests[0] != digests[1]


def test_what_is_read_and_made_under_one_context_are_told_apart(workspace: Workspace) -> None:
    given, kept = dataset({"a/b": 4}), dataset({"a/b": 3})
    with lineage.step("sanitize", "r1") as record:
        record.uses(given, "training")
        record.makes(kept, "training")
    tags = by_step(runs(workspace))["sanitize"].data.tags
    assert tags["assay.dataset.training"] == given.manifest.digest
    assert tags["assay.dataset.training.made"] == kept.manifest.digest


@pytest.mark.parametrize("size", [6000, 6001, 50_000])
def test_a_value_too_long_for_a_parameter_is_kept_whole(workspace: Workspace, size: int) -> None:
    text = "".join(chr(97 + place % 26) for place in range(size))
    record_step("train", "r1", params={"config": text})
    run = by_step(runs(workspace))["train"]
    if size == 6000:
        assert run.data.params["config"] == text
        return
    assert run.data.params["config"].startswith(f"sha256:{canonical.sha256(text.encode())}")
    path = client(workspace).download_artifacts(run.info.run_id, "long/config.txt")
    assert Path(path).read_text() == text


def test_a_parameter_that_changed_between_repetitions_shows_both_values(workspace: Workspace) -> None:
    record_step("train", "r1", params={"seed": 1})
    record_step("train", "r1", params={"seed": 2})
    run = by_step(runs(workspace))["train"]
    assert (run.data.params["seed"], run.data.tags["assay.repeated.seed"]) == ("1", "2")


def test_a_metric_that_is_not_finite_is_named_and_left_out(workspace: Workspace) -> None:
    record_step("train", "r1", metrics={"loss": float("nan"), "margin": float("inf")})
    run = by_step(runs(workspace))["train"]
    assert run.data.metrics == {"accuracy": 0.5}
    assert run.data.tags["assay.not_finite"] == "loss, margin"


def test_files_are_copied_below_the_home_and_nothing_lands_in_the_working_folder(
    workspace: Workspace, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text("<p>")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text("{}")
    with lineage.step("train", "r1") as record:
        record.shows(page)
        record.shows(tmp_path / "model")
        record.shows(tmp_path / "gone")
    run = by_step(runs(workspace))["train"]
    assert run.info.artifact_uri.startswith((workspace.home / "mlartifacts").as_uri())
    assert {item.path for item in client(workspace).list_artifacts(run.info.run_id)} == {"model", "page.html"}
    assert run.data.tags["assay.artifact_gone.gone"] == str(tmp_path / "gone")
    assert list(Path.cwd().iterdir()) == []


def test_a_verb_on_its_own_leaves_no_trace(workspace: Workspace) -> None:
    record_step("train", "")
    assert runs(workspace) == []
    assert outbox(workspace) == []


@pytest.mark.parametrize("run", ["a/b", "it's", "", " "])
def test_a_run_id_that_is_no_plain_name_is_refused_or_records_nothing(workspace: Workspace, run: str) -> None:
    if run == "":
        record_step("train", run)
    else:
        with pytest.raises(UnfitInput):
            record_step("train", run)
    assert workspace.ledger.names("runs/") == []


def test_nothing_is_printed_on_standard_output(workspace: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    record_step("train", "r1", dataset({"a/b": 4}))
    assert capfd.readouterr().out == ""
    assert len(runs(workspace)) == 2
