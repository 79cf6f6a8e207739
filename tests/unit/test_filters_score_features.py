"""Scores of features in a file: one machine and any shards write the same bytes; sums of something else are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from assay import canonical
from assay.cli import main
from assay.config.shard import Shard
from assay.errors import UnfitInput
from assay.filters import streaming
from assay.filters._state import joined, state_of
from assay.filters.score_features import score_features, sum_features
from assay.filters.spectral import Spectral
from assay.filters.streaming import Moments
from assay.filters.trusted_mahalanobis import TrustedMahalanobis

RECORDS, WIDTH = 700, 6  # eleven blocks, the last one short


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "BLOCK", 64)


class Files:
    """Features of three classes, the last rare and late, their labels, and trusted records."""

    def __init__(self, folder: Path) -> None:
        draw = np.random.default_rng(0)
        self.folder, self.features, self.labels = folder, folder / "x.npy", folder / "y.npy"
        self.trusted = (folder / "t.npy", folder / "ty.npy")
        self.y = np.arange(RECORDS) % 2
        self.y[-9:] = 2
        self.x = (3 * self.y[:, None] + draw.standard_normal((RECORDS, WIDTH))).astype(np.float32)
        known = np.arange(90) % 3
        for path, array in (
            (self.features, self.x),
            (self.labels, self.y),
            (self.trusted[0], 3 * known[:, None] + draw.standard_normal((90, WIDTH))),
            (self.trusted[1], known.astype(np.uint8)),
        ):
            np.save(path, array)

    def states(self, of: int) -> list[Path]:
        made = [self.folder / f"{number}-{of}.safetensors" for number in range(1, of + 1)]
        for number, path in enumerate(made, 1):
            sum_features(self.features, self.labels, Shard(number=number, of=of), out=path)
        return made

    def score(self, states: list[Path] | None = None, trusted: bool = True) -> bytes:
        out, known = self.folder / "scores.parquet", self.trusted if trusted else None
        score_features(self.features, self.labels, scores=out, states=states or (), trusted=known)
        return out.read_bytes()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.mark.parametrize("of", [8, *(pytest.param(of, marks=pytest.mark.slow) for of in (1, 2, 11, 20))])
def test_any_number_of_shards_writes_the_bytes_of_one_machine(files: Files, of: int) -> None:
    """In any order; of twenty shards of eleven blocks, nine have none."""
    assert files.score(files.states(of)[::-1]) == files.score()


def test_the_scores_are_those_of_the_members_in_memory(files: Files) -> None:
    files.score()
    table = pq.read_table(files.folder / "scores.parquet")
    x = files.x.astype(np.float64)
    np.testing.assert_allclose(table["spectral"], Spectral().suspicion(x, files.y), rtol=1e-6, atol=1e-9)
    known, answers = (np.load(path) for path in files.trusted)
    inside = TrustedMahalanobis().suspicion(x, files.y, trusted_features=known, trusted_labels=answers.astype(np.int64))
    np.testing.assert_allclose(table["trusted_mahalanobis"], inside, rtol=1e-6)
    assert table["row"].to_pylist() == list(range(RECORDS))
    assert np.array_equal(table["label"], files.y)


def test_a_shard_reads_only_its_own_blocks(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[int] = set()
    rows = streaming._rows
    monkeypatch.setattr(streaming, "_rows", lambda file, labels, block: read.add(block) or rows(file, labels, block))
    sum_features(files.features, files.labels, Shard(number=2, of=3), out=files.folder / "s")
    assert read == set(Shard(number=2, of=3).stretch(11)) == {3, 4, 5, 6}


def test_a_shard_that_was_summed_is_not_summed_again(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted run asks for all shards again; one of other features, labels, blocks, or broken, is replaced."""
    whole, (one, two) = files.score(), files.states(2)
    before, half = one.read_bytes(), Shard(number=1, of=2)
    with monkeypatch.context() as patch:
        patch.setattr(streaming, "moments", lambda *_: pytest.fail("summed again"))
        assert sum_features(files.features, files.labels, half, out=one)["resumed"]
    for broken in (b"", before[:-1], two.read_bytes()):
        one.write_bytes(broken)
        assert not sum_features(files.features, files.labels, half, out=one)["resumed"]
        assert one.read_bytes() == before
    assert files.score([one, two]) == whole
    x = files.x.copy()
    x[100, 0] += 1
    np.save(files.features, x)
    assert not sum_features(files.features, files.labels, half, out=one)["resumed"]
    assert files.score([one, two]) != whole


def change(path: Path, how: Callable[[dict[str, Any], dict[str, Any]], Any], whole: bool = False) -> None:
    """A state with other tensors or another document; with ``whole`` its own digest made to fit again."""
    from assay.filters._state import _digest

    with safe_open(path, framework="numpy") as handle:
        document = json.loads(handle.metadata()["assay"])
        tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    how(document, tensors)
    document |= {"sums": _digest(tensors)} if whole else {}
    save_file(tensors, path, metadata={"assay": canonical.dumps(document).decode()})


def first(tensors: dict[str, Any], kind: str) -> Any:
    return tensors[next(name for name in sorted(tensors) if name.endswith(kind))]


CHANGES: dict[str, tuple[str, Callable[[dict[str, Any], dict[str, Any]], Any], bool]] = {
    "a bit of a sum": ("sums", lambda d, t: first(t, "mean").__setitem__(0, 1.0), False),
    "a sum that is not finite": ("NaN", lambda d, t: first(t, "scatter").__setitem__((0, 0), np.nan), True),
    "a sum too few": ("KeyError", lambda d, t: t.pop(next(iter(t))), True),
    "a count": ("other counts", lambda d, t: d["counts"].update({min(d["counts"]): 3}), False),
    "a class too few": ("other counts", lambda d, t: d["counts"].pop(min(d["counts"])), False),
    "other records": ("records", lambda d, t: d.update(records=5), False),
    "other labels": ("labels", lambda d, t: d.update(labels="0" * 64), False),
    "another width": ("width", lambda d, t: d.update(width=7), False),
    "another division": ("block", lambda d, t: d.update(block=128), False),
    "another release": ("schema", lambda d, t: d.update(schema="assay.class-sums/v2"), False),
    "a digest too few": ("digests", lambda d, t: d["blocks"].popitem(), False),
    "other features": ("other features", lambda d, t: d["blocks"].update({"0": "0" * 64}), False),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_state_that_does_not_belong_is_refused_by_name(files: Files, what: str) -> None:
    said, how, whole = CHANGES[what]
    states = files.states(2)
    change(states[0], how, whole)
    with pytest.raises(UnfitInput, match=said):
        files.score(states)
    assert not (files.folder / "scores.parquet").exists()


def test_missing_doubled_and_broken_states_are_refused(files: Files) -> None:
    states = files.states(3)
    with pytest.raises(UnfitInput, match="7 blocks, none of them 3 to 6, need all 11"):
        files.score([states[0], states[2]])
    with pytest.raises(UnfitInput, match=r"3-3.*block 7 twice: .*2-2"):
        files.score([files.states(2)[1], states[2]])
    with pytest.raises(UnfitInput, match=r"2-3.safetensors: got block 3 twice: .*2-3"):
        files.score([*states, states[1]])
    whole = states[1].read_bytes()
    for data in (b"", whole[:-1], whole[:40], b"x" + whole[1:]):
        states[1].write_bytes(data)
        with pytest.raises(UnfitInput, match="2-3"):
            files.score(states)


def test_a_state_that_holds_a_block_twice_is_refused(files: Files) -> None:
    """Its blocks add up to the right number, for another is missing."""
    whole = state_of(files.features, files.y, range(3))
    doubled = {**whole.moments.nodes, (0, 0): whole.moments.nodes[1, 0]}
    del doubled[0, 2]
    with pytest.raises(UnfitInput, match="twice"):
        joined([replace(whole, moments=Moments(doubled))], 3 * streaming.BLOCK)


def test_features_that_changed_after_they_were_summed_are_refused(files: Files) -> None:
    states = files.states(2)
    x = files.x.copy()
    x[100, 0] += 1
    np.save(files.features, x)
    with pytest.raises(UnfitInput, match="block 1: got other features"):
        files.score(states)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("x", np.full((RECORDS, WIDTH), np.nan, np.float32)),
        ("x", np.zeros((RECORDS - 1, WIDTH))),
        ("x", np.zeros((RECORDS, WIDTH), int)),
        ("x", np.zeros((0, WIDTH))),
        ("y", np.zeros(RECORDS)),
        ("y", np.zeros((RECORDS, 1), int)),
        ("y", np.zeros(0, int)),
        ("t", np.zeros((90, WIDTH + 1))),
        ("t", np.full((90, WIDTH), np.inf)),
        ("ty", np.zeros(89, int)),
    ],
)
def test_files_that_do_not_fit_each_other_are_refused(files: Files, name: str, array: Any) -> None:
    np.save(files.folder / f"{name}.npy", array)
    with pytest.raises(UnfitInput):
        files.score()
    assert not (files.folder / "scores.parquet").exists()


def test_the_verb_sums_and_scores(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(files.features), "--labels", str(files.labels), "--json"]
    states = [str(files.folder / f"{number}.safetensors") for number in (1, 2)]
    for number, path in enumerate(states, 1):
        assert main.run(["score-features", *given, "--shard", f"{number}/2", "--out", path]) == 0
        assert json.loads(capsys.readouterr().out)["blocks"] == (5, 6)[number - 1]
    known = ["--trusted", str(files.trusted[0]), "--trusted-labels", str(files.trusted[1])]
    out = files.folder / "many.parquet"
    joined = [option for path in states for option in ("--state", path)]
    assert main.run(["score-features", *given, *known, *joined, "--out", str(out)]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["records"], said["classes"]) == (RECORDS, {"0": 346, "1": 345, "2": 9})
    assert said["detectors"] == ["spectral", "trusted_mahalanobis"]
    assert out.read_bytes() == files.score()
    assert main.run(["score-features", *given, *joined[:2], "--out", str(out)]) == 2
    assert main.run(["score-features", *given, *known[:2], "--out", str(out)]) == 2
    assert main.run(["score-features", *given, *known, "--shard", "1/2", "--out", str(out)]) == 2
