"""The bundle of a promotion: verified offline with public keys, and what differs is named."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from promotion_cases import write_model
from trace_cases import CHAMPION, Story, tell

from assay.errors import AssayError, UnfitInput
from assay.keyring import Keyring
from assay.serving import fetch
from assay.signing import peek, seal
from assay.verify import verify
from assay.workspace import Workspace


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return tell(tmp_path_factory.mktemp("story"))


@pytest.fixture(scope="module")
def whole(story: Story, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the champion, as the serving check writes it."""
    folder = tmp_path_factory.mktemp("bundle")
    fetch(CHAMPION, folder / "served", workspace=story.workspace, bundle=folder / "bundle")
    return folder / "bundle"


@pytest.fixture
def bundle(whole: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "bundle"))


def test_a_bundle_holds_all_and_verifies_offline(story: Story, bundle: Path) -> None:
    answer = verify(bundle, story.workspace.keyring)
    assert answer["verified"] is True, answer["reason"]
    kinds = sorted(one["kind"] for one in answer["checked"])
    assert kinds == ["decision", "evidence", "manifest", "manifest", "model", "promotion"]
    assert {one["target"] for one in answer["checked"]} == {"", "digits@champion"}
    assert {path.stem for path in (bundle / "manifests").iterdir()} == {
        story.clean.manifest.digest,
        peek((bundle / "evidence.dsse.json").read_bytes())["subject"][1]["digest"]["sha256"],
    }


def test_a_bundle_is_written_once_and_is_not_another(story: Story, bundle: Path, tmp_path: Path) -> None:
    workspace = story.workspace
    fetch(CHAMPION, tmp_path / "served", workspace=workspace, bundle=bundle)
    (bundle / "model" / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(UnfitInput, match="other content"):
        fetch(CHAMPION, tmp_path / "elsewhere", workspace=workspace, bundle=bundle)
    assert not (tmp_path / "elsewhere").exists()


def test_another_keyring_verifies_nothing_of_it(bundle: Path) -> None:
    answer = verify(bundle, Keyring())
    assert not answer["verified"]
    assert len(answer["faults"]) >= 3


def resign(path: Path, workspace: Workspace, role: Any, edit: Callable[[dict[str, Any]], None]) -> None:
    said = peek(path.read_bytes())
    edit(said)
    path.write_bytes(seal(said, workspace.signers(role)))


def subject(said: dict[str, Any], name: str, digest: str) -> None:
    next(entry for entry in said["subject"] if entry["name"] == name)["digest"]["sha256"] = digest


def test_another_model_is_named_by_the_files_that_differ(story: Story, bundle: Path) -> None:
    shutil.rmtree(bundle / "model")
    write_model(bundle / "model", b"another")
    (fault, *_) = [text for text in verify(bundle, story.workspace.keyring)["faults"] if "promotion" in text]
    assert "another model.json, weights.safetensors" in fault


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors", "golden.parquet"])
def test_a_changed_file_of_the_model_is_named(story: Story, bundle: Path, name: str) -> None:
    path = bundle / "model" / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert name in verify(bundle, story.workspace.keyring)["reason"]


@pytest.mark.parametrize("name", ["dataset", "holdout", "policy"])
def test_a_promotion_that_names_other_data_or_policy_is_named(story: Story, bundle: Path, name: str) -> None:
    """Even signed by the promoter."""
    path = bundle / "promotion.dsse.json"
    resign(path, story.workspace, "promoter", lambda said: subject(said, name, "0" * 64))
    assert any(f"promotion.dsse.json: {name} 000000000000, but" in text for text in faults(bundle, story))


def test_a_decision_for_another_target_is_named(story: Story, bundle: Path) -> None:
    path = bundle / "promotion.dsse.json"
    resign(path, story.workspace, "promoter", lambda said: said["predicate"]["target"].update(alias="canary"))
    assert any("target digits@canary, but" in text for text in faults(bundle, story))


def test_a_decision_with_another_policy_than_it_names_is_refused(story: Story, bundle: Path) -> None:
    path = bundle / "decision.dsse.json"
    resign(path, story.workspace, "evaluator", lambda said: said["predicate"]["policy"].update(confidence=0.9))
    assert any("policy" in text for text in faults(bundle, story))


def faults(bundle: Path, story: Story) -> list[str]:
    answer = verify(bundle, story.workspace.keyring)
    assert answer["verified"] is False
    return list(answer["faults"])


def test_a_gap_in_the_chain_of_manifests_is_named(story: Story, bundle: Path) -> None:
    (bundle / "manifests" / f"{story.clean.manifest.digest}.json").unlink()
    assert f"dataset {story.clean.manifest.digest[:12]}, of which no manifest is here" in faults(bundle, story)[0]


def test_a_manifest_under_another_name_is_refused(story: Story, bundle: Path) -> None:
    first, second = sorted((bundle / "manifests").iterdir())
    first.write_bytes(second.read_bytes())
    assert any("its name says" in text for text in faults(bundle, story))


def test_another_evidence_is_named(story: Story, bundle: Path) -> None:
    shutil.copy(story.old.evidence_path, bundle / "evidence.dsse.json")
    assert any("speaks of evidence" in text for text in faults(bundle, story))


def flips(bundle: Path, keyring: Keyring, count: int, seed: int) -> list[str]:
    """The files in which one of so many random flips of a bit, one at a time, went unnoticed."""
    rng = random.Random(seed)
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    passed = []
    for _ in range(count):
        path = rng.choice(files)
        before = path.read_bytes()
        at, bit = rng.randrange(len(before)), 1 << rng.randrange(8)
        path.write_bytes(before[:at] + bytes([before[at] ^ bit]) + before[at + 1 :])
        with suppress(AssayError):
            passed += [str(path)] if verify(bundle, keyring)["verified"] else []
        path.write_bytes(before)
    return passed


def test_100_bit_flips_anywhere_in_a_bundle_are_refused(story: Story, bundle: Path) -> None:
    assert flips(bundle, story.workspace.keyring, 100, seed=0) == []
    assert verify(bundle, story.workspace.keyring)["verified"] is True


@pytest.mark.slow
def test_2000_bit_flips_anywhere_in_a_bundle_are_refused(story: Story, bundle: Path) -> None:
    assert flips(bundle, story.workspace.keyring, 2000, seed=1) == []


def test_a_ledger_is_verified_as_a_whole(story: Story) -> None:
    answer = verify(story.workspace.home / "ledger", story.workspace.keyring)
    assert {one["kind"] for one in answer["checked"]} >= {"manifest", "evidence", "decision", "promotion", "model"}
    assert answer["verified"] is True, answer["faults"]
