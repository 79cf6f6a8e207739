"""What promotion and serving of any release wrote is still served, verified and remembered."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from assay.config.root import Target
from assay.errors import Refused
from assay.keyring import Keyring
from assay.ledger import FileLedger
from assay.promotions import history
from assay.serving import fetch
from assay.verify import verify
from assay.workspace import Workspace

HERE = Path(__file__).parent
FIRST = HERE / "0.1.0"
SERVING = sorted(path for path in HERE.iterdir() if (path / "store").is_dir())
DIGITS = Target(model="digits", alias="champion")


def at(workspace: Workspace, store: Path, keys: Path) -> Workspace:
    return replace(workspace, ledger_uri=str(store), keyring_path=keys)


def test_a_model_promoted_before_the_serving_check_existed_is_served(workspace: Workspace, tmp_path: Path) -> None:
    kept = at(workspace, FIRST / "ledger", FIRST / "keys.json")
    answer = fetch(
        Target(model="tiny"), tmp_path / "served", workspace=kept, registry=False, bundle=tmp_path / "bundle"
    )
    assert (answer["sequence"], answer["until"]) == (1, "")
    whole = verify(tmp_path / "bundle", kept.keyring)
    assert whole["verified"] is True, whole["faults"]


@pytest.mark.parametrize("museum", SERVING, ids=lambda path: path.name)
def test_a_store_with_a_rollback_is_served(museum: Path, workspace: Workspace, tmp_path: Path) -> None:
    shutil.copy(museum / "seen.json", tmp_path / "seen.json")
    kept = at(workspace, museum / "store", museum / "keys.json")
    answer = fetch(DIGITS, tmp_path / "served", workspace=kept, registry=False, seen=tmp_path / "seen.json")
    assert (answer["sequence"], answer["rollback_to"]) == (3, 1)
    assert [made.sequence for made in history(FileLedger(museum / "store"), kept.keyring, DIGITS)] == [1, 2, 3]
    with pytest.raises(Refused, match="revoked"):
        fetch(Target(model="digits", alias="canary"), tmp_path / "other", workspace=kept, registry=False)


@pytest.mark.parametrize("museum", SERVING, ids=lambda path: path.name)
def test_a_bundle_verifies_and_a_key_list_keeps_every_field(museum: Path) -> None:
    keyring = Keyring.load(museum / "keys.json")
    answer = verify(museum / "bundle", keyring)
    assert answer["verified"] is True, answer["faults"]
    assert keyring.revoked
    assert keyring.revoked_keys == {"0" * 64}
    assert keyring.thresholds == {"promoter": 1}
    assert len(keyring.policies) == 1
