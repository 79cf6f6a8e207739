"""The loop over shards of score_features, run by the engine itself: the scores are those of one machine."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from kfp import dsl, local

from assay.components.score_features import component
from assay.config.resources import Resources
from assay.config.shard import Shard
from assay.errors import UnfitInput
from assay.filters.score_features import score_features, sum_features
from assay.pipelines import score_features as scoring
from assay.runner.run import run_pipeline
from assay.workspace import Workspace

FILES = ("features", "labels", "trusted", "trusted_labels")


@pytest.fixture
def given(tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Features of 20,000 records, five blocks of three classes, and of trusted ones; the engine's parameters."""
    workspace.initialise()
    for name, value in workspace.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name, count in (("", 20_000), ("trusted", 300)):
        y = rng.integers(0, 3, count)
        np.save(tmp_path / f"{name or 'features'}.npy", (rng.normal(size=(count, 8)) + y[:, None]).astype(np.float32))
        np.save(tmp_path / f"{name + '_' if name else ''}labels.npy", y)
    return {name: str(tmp_path / f"{name}.npy") for name in FILES}


def alone(given: dict[str, str], out: Path) -> bytes:
    """The scores of the command line, on one machine."""
    features, labels, *trusted = (Path(given[name]) for name in FILES)
    score_features(features, labels, scores=out, trusted=(trusted[0], trusted[1]))
    return out.read_bytes()


def run(shards: int, given: dict[str, str], folder: Path) -> Path:
    """All shards through the engine's loop; returns the folder of their artifacts."""
    artifacts = folder / f"artifacts-{shards}"
    runner = local.SubprocessRunner(use_venv=False)
    local.init(runner, pipeline_root=str(artifacts), workspace_root=str(folder / "workspace"))
    scoring.build(Resources(score_shards=shards))(**given)
    return artifacts


@pytest.mark.slow
def test_without_shards_the_step_runs_as_every_other(given: dict[str, str], tmp_path: Path) -> None:
    """One task and no loop, which is what the runner of one machine takes."""
    result = run_pipeline(scoring.build(Resources()), given, folder=tmp_path / "run").require()
    assert set(result.tasks) == {"score-features"}
    assert result.artifact("score_features", "scores").read_bytes() == alone(given, tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.parametrize("shards", [2, 8])
def test_shards_through_the_loop_give_the_bytes_of_one_machine(
    given: dict[str, str], tmp_path: Path, workspace: Workspace, shards: int
) -> None:
    """Of eight shards of five blocks three have none."""
    artifacts = run(shards, given, tmp_path)
    assert len(list(artifacts.rglob("sum-features/state"))) == shards
    (scores,) = artifacts.rglob("score-features/scores")
    assert scores.read_bytes() == alone(given, tmp_path / "alone")
    assert not list((workspace.home / "outbox").glob("*.json")), "MLflow took every record"


def test_states_of_another_run_a_doubled_and_a_missing_one_are_refused_by_name(
    given: dict[str, str], tmp_path: Path
) -> None:
    """What the task that joins is given is checked there, whatever the engine collected."""
    states = []
    for number in (1, 2, 3):
        states.append(tmp_path / f"state-{number}")
        sum_features(Path(given["features"]), Path(given["labels"]), Shard(number=number, of=3), out=states[-1])

    def join(paths: list[Path]) -> None:
        made = {"scores": dsl.Artifact(uri=str(tmp_path / "scores")), "metrics": dsl.Metrics()}
        files = {name: dsl.Artifact(name=name, uri=given[name]) for name in FILES}
        listed = [dsl.Artifact(name="state", uri=str(path)) for path in paths]
        component.score_features.python_func(**files, **made, states=listed, run="")

    join(states[::-1])
    assert (tmp_path / "scores").read_bytes() == alone(given, tmp_path / "alone")
    (tmp_path / "scores").unlink()
    with pytest.raises(UnfitInput, match="3 blocks, none of them 1 to 2, need all 5"):
        join([states[0], states[2]])
    shutil.copy(states[0], tmp_path / "again")
    with pytest.raises(UnfitInput, match="again: got block 0 twice"):
        join([*states, tmp_path / "again"])
    other = np.load(given["features"])
    other[4096] += 1
    np.save(tmp_path / "other.npy", other)
    sum_features(tmp_path / "other.npy", Path(given["labels"]), Shard(number=2, of=3), out=tmp_path / "foreign")
    with pytest.raises(UnfitInput, match="block 1: got other features"):
        join([states[0], tmp_path / "foreign", states[2]])
    assert not (tmp_path / "scores").exists()
