"""A file that any release wrote stays readable: one of each is kept here, and every reader opens it."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from assay import canonical
from assay.config import Config
from assay.data.dataset import Dataset
from assay.data.findings import read_findings
from assay.data.manifest import Manifest
from assay.evidence import Evidence, payload_id
from assay.keyring import Keyring
from assay.ledger import FileLedger
from assay.release import release
from assay.signing import unseal
from assay.trace import trace

RELEASES = sorted(path for path in Path(__file__).parent.iterdir() if (path / "ledger").is_dir())
ROLES = {"evidence": "evaluator", "decision": "evaluator", "promotion": "promoter"}

pytestmark = pytest.mark.parametrize("release_of", RELEASES, ids=lambda path: path.name)


def test_every_envelope_verifies_and_keeps_its_id(release_of: Path) -> None:
    keyring = Keyring.load(release_of / "keys.json")
    seen = set()
    for kind, role in ROLES.items():
        for path in (release_of / "ledger").glob(
            f"{kind}s/**/*.dsse.json" if kind != "evidence" else "evidence/*.json"
        ):
            opened = unseal(path.read_bytes(), keyring, kind=kind, role=role)  # type: ignore[arg-type]
            seen.add(kind)
            if kind != "promotion":
                assert payload_id(opened.statement) == path.name.removesuffix(".dsse.json")
            if kind == "evidence":
                assert Evidence.from_statement(opened.statement).estimates["clean_accuracy"].n > 0
    assert seen == set(ROLES)


def test_every_manifest_keeps_its_digest(release_of: Path) -> None:
    paths = list((release_of / "ledger" / "manifests").glob("*.json"))
    assert paths
    for path in paths:
        manifest = Manifest.from_json(canonical.read(path))
        assert manifest.digest == path.stem
        listed = pq.read_table(release_of / "ledger" / "records" / f"{manifest.content_digest}.parquet")
        assert listed.num_rows == manifest.content.records


def test_datasets_load_and_a_release_joins_them_again(release_of: Path, tmp_path: Path) -> None:
    kept, quarantined = (Dataset.load(release_of / name) for name in ("kept", "quarantine"))
    findings = read_findings((release_of / "quarantine" / "findings.parquet").read_bytes())
    assert {finding.record_id for finding in findings} >= set(quarantined.record_ids)
    release(release_of / "quarantine", release_of / "kept", tmp_path / "all")
    joined = Dataset.load(tmp_path / "all")
    parent = kept.manifest.history.parents[0]
    manifest = Manifest.from_json(canonical.read(release_of / "ledger" / "manifests" / f"{parent}.json"))
    assert joined.manifest.content_digest == manifest.content_digest


def test_the_model_loads_and_replays_its_golden_outputs(release_of: Path) -> None:
    from assay.models.folder import load_model

    loaded = load_model(release_of / "model")
    assert (release_of / "ledger" / "models" / f"{loaded.digest}.json").is_file()


def test_the_ledger_answers_a_trace(release_of: Path) -> None:
    kinds = {node["kind"] for node in trace("source:vendor-c", FileLedger(release_of / "ledger"))["nodes"]}
    assert {"source", "batch", "dataset", "model", "evidence", "decision", "promotion", "alias"} <= kinds


def test_the_configuration_parses(release_of: Path) -> None:
    assert Config.load(release_of / "assay.yaml").promote.model == "tiny"


def test_tables_of_scores_and_outcomes_hold_record_ids(release_of: Path) -> None:
    for name in ("scores", "outcomes"):
        assert "record_id" in pq.read_table(release_of / name).column_names
