"""Who may contribute what: place, signature, trust and limits of every source, judged batch by batch."""

from __future__ import annotations

import base64
import json
import random
import shutil
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from assay import canonical
from assay.cli.main import run
from assay.config import Config
from assay.config.base import parse
from assay.config.ingest import IngestConfig, SourceConfig, SourceRule
from assay.config.sources import read_sources
from assay.data.dataset import Dataset
from assay.errors import AssayError, Refused, UnfitInput, UnknownName
from assay.ingest.admit import place_of, require_place
from assay.ingest.sign import sign_batch
from assay.ingest.take import take_all
from assay.keyring import make_key
from assay.workspace import Workspace


def table(seed: int, rows: int = 40) -> str:
    return "x,y,label\n" + "".join(f"{k + seed / 8},{k * 7 % 5 / 4},{'ab'[k % 2]}\n" for k in range(rows))


@pytest.fixture
def market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two suppliers with keys, each with one signed batch, and a sources file that knows them."""
    monkeypatch.chdir(tmp_path)
    rules: dict[str, Any] = {}
    for seed, name in enumerate(("ann", "bob")):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "b1.csv").write_text(table(seed))
        signed = sign_batch(
            [tmp_path / "in" / name / "b1.csv"], source=name, batch="b1", key=f"{name}.pem", new_key=True
        )
        batches = [{"batch": "b1", "uri": f"in/{name}/b1.csv"}]
        rules[name] = {"prefixes": [f"in/{name}"], "keys": [signed["public"]], "batches": batches}
    write(tmp_path, rules)
    return tmp_path


def write(folder: Path, rules: dict[str, Any]) -> None:
    (folder / "sources.yaml").write_text(yaml.safe_dump({"schema": "assay.sources/v1", "sources": rules}))


def rules_of(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / "sources.yaml").read_text())["sources"])


def change(folder: Path, name: str, **given: Any) -> None:
    rules = rules_of(folder)
    rules[name] |= given
    write(folder, rules)


def ingest(capsys: pytest.CaptureFixture[str], *sources: str, out: str = "out") -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    code = run(["ingest", *sources, "--out", out, "--json"])
    return code, json.loads(capsys.readouterr().out)


def take(folder: Path) -> dict[str, str]:
    """The batches of the sources file that are rejected, and by which check, without a whole step."""
    known, home = read_sources(folder / "sources.yaml"), Workspace.from_env()
    with ExitStack() as files:
        rows = Path(files.enter_context(TemporaryDirectory()))
        taken = take_all(known.batches, IngestConfig(sources=known.rules), files, home.ledger, home.keyring, rows)
    assert len(taken.batches) + len(taken.rejected) == len(known.batches)
    return {it.name: it.check for it in taken.rejected}


def rejected(document: dict[str, Any]) -> dict[str, str]:
    return {it["batch"]: it["check"] for it in document["rejected"]}


def test_signed_batches_come_in_and_the_manifest_names_their_keys(
    market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = ingest(capsys, "ann", "bob")
    assert (code, document["kept"], document["rejected"]) == (0, 80, [])
    shares = Dataset.load(market / "out" / "dataset").manifest.history.sources
    keyids = {name: canonical.loads((market / f"in/{name}/b1.csv.dsse.json").read_bytes()) for name in ("ann", "bob")}
    assert {it.source: it.uploader for it in shares} == {
        name: envelope["signatures"][0]["keyid"] for name, envelope in keyids.items()
    }


def swap(folder: Path) -> None:
    shutil.copy(folder / "in/ann/b1.csv", folder / "in/bob/b1.csv")


def relabel(folder: Path) -> None:
    """Bob's file under a good signature of his own, made for another batch."""
    sign_batch([folder / "in/bob/b1.csv"], source="bob", batch="b0", key="bob.pem")


def pose(folder: Path) -> None:
    """Ann signs a file as Bob's."""
    sign_batch([folder / "in/bob/b1.csv"], source="bob", batch="b1", key="ann.pem")


def link(folder: Path) -> None:
    (folder / "in/bob/b1.csv").unlink()
    (folder / "secret.csv").write_text(table(5))
    (folder / "in/bob/b1.csv").symlink_to(folder / "secret.csv")


ATTACKS: dict[str, tuple[Any, str, bool]] = {
    "no signature": (lambda f: (f / "in/bob/b1.csv.dsse.json").unlink(), "signature", True),
    "other bytes": (lambda f: (f / "in/bob/b1.csv").write_text(table(9)), "signature", True),
    "another supplier's file": (swap, "signature", True),
    "another supplier's signature": (
        lambda f: shutil.copy(f / "in/ann/b1.csv.dsse.json", f / "in/bob/b1.csv.dsse.json"),
        "signature",
        True,
    ),
    "a signature for another batch": (relabel, "signature", True),
    "a key of another supplier": (pose, "signature", True),
    "a broken envelope": (lambda f: (f / "in/bob/b1.csv.dsse.json").write_text("{}"), "signature", True),
    "a link out of the prefix": (link, "prefix", False),
    "another prefix": (lambda f: change(f, "bob", prefixes=["in/bo"]), "prefix", False),
    "too many bytes": (lambda f: change(f, "bob", limits={"file_bytes": 100}), "fetch", False),
    "too many rows": (lambda f: change(f, "bob", limits={"rows": 39}), "content", True),
    "a malformed file": (
        lambda f: (
            (f / "in/bob/b1.csv").write_text("x,x,label\n1,2,a\n"),
            sign_batch([f / "in/bob/b1.csv"], source="bob", batch="b1", key="bob.pem"),
        ),
        "content",
        True,
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_source_may_not_contribute_is_rejected_by_the_check_it_fails(market: Path, attack: str) -> None:
    make, check, _ = ATTACKS[attack]
    make(market)
    assert take(market) == {"bob/b1": check}


@pytest.mark.parametrize("attack", ["other bytes", "a link out of the prefix"])
def test_what_a_source_may_not_contribute_is_kept_aside_and_stops_nobody_else(
    market: Path, attack: str, capsys: pytest.CaptureFixture[str], workspace: Workspace
) -> None:
    make, check, held = ATTACKS[attack]
    make(market)
    code, document = ingest(capsys, "ann", "bob")
    assert (code, document["kept"], rejected(document)) == (1, 40, {"bob/b1": check})
    assert workspace.ledger.names("batches/") == ["batches/ann/b1.json"]
    kept = Dataset.load(market / "out" / "dataset")
    assert {name.partition("/")[0] for name in kept.record_ids} == {"ann"}
    listed = (market / "out/quarantine/rejected.jsonl").read_bytes()
    assert kept.manifest.history.parameters["rejected"] == canonical.sha256(listed)
    aside = market / "out/quarantine/rejected/bob/b1/data"
    assert aside.exists() == held
    if held:
        assert aside.read_bytes() == (market / "in/bob/b1.csv").read_bytes()


def test_nothing_is_opened_at_a_place_that_is_not_the_source_s(
    market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (market / "secret.csv").write_text(table(3))
    code, document = ingest(capsys, "ann", f"bob/b2={market / 'secret.csv'}")
    assert (code, rejected(document)) == (1, {"bob/b2": "prefix"})
    assert document["rejected"][0]["files"] == []
    assert not (market / "out/quarantine/rejected").exists()


def test_a_source_nobody_named_is_rejected(market: Path) -> None:
    known, home = read_sources(market / "sources.yaml"), Workspace.from_env()
    with ExitStack() as files:
        config = IngestConfig(sources={"ann": known.rules["ann"]})
        taken = take_all(known.batches, config, files, home.ledger, home.keyring, market / "rows")
    assert [(it.name, it.check) for it in taken.rejected] == [("bob/b1", "source")]


def test_a_name_that_is_bound_to_other_bytes_is_rejected(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest(capsys, "ann", "bob")[0] == 0
    (market / "in/bob/b1.csv").write_text(table(9))
    sign_batch([market / "in/bob/b1.csv"], source="bob", batch="b1", key="bob.pem")
    code, document = ingest(capsys, "ann", "bob", out="again")
    assert (code, rejected(document)) == (1, {"bob/b1": "name"})


def test_when_nobody_is_left_the_answer_is_no_and_the_batches_are_kept_aside(
    market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("ann", "bob"):
        (market / f"in/{name}/b1.csv.dsse.json").unlink()
    code, document = ingest(capsys, "ann", "bob")
    assert code == 1
    assert "2 batches were rejected" in document["error"]["message"]
    assert not (market / "out/dataset").exists()
    assert sorted(path.name for path in (market / "out/quarantine/rejected").iterdir()) == ["ann", "bob"]


def test_trust_is_what_the_rule_says_and_nobody_may_claim_more(
    market: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(market, "ann", trust="trusted")
    code, document = ingest(capsys, "ann", "bob")
    assert code == 0
    assert document["calibration"]["records"] + document["holdout"]["records"] == 40
    capsys.readouterr()
    assert run(["ingest", "ann", "bob", "--trusted", "bob", "--out", "o2", "--json"]) == 1
    assert rejected(json.loads(capsys.readouterr().out)) == {"bob/b1": "trust"}
    (market / "in/ann/b1.csv.dsse.json").unlink()
    code, document = ingest(capsys, "ann", "bob", out="o3")
    assert code == 1
    assert "of a trusted source" in document["error"]["message"]


def test_an_unsigned_batch_comes_in_only_where_its_rule_says_so(market: Path) -> None:
    change(market, "bob", require_signature=False)
    shutil.copy(market / "in/ann/b1.csv.dsse.json", market / "in/bob/b1.csv.dsse.json")
    assert take(market) == {"bob/b1": "signature"}
    (market / "in/bob/b1.csv.dsse.json").unlink()
    assert take(market) == {}


def test_a_key_out_of_its_time_or_a_revoked_delivery_counts_no_more(market: Path, workspace: Workspace) -> None:
    entry = make_key(market / "carl.pem", ("uploader",))
    change(market, "bob", keys=[entry.keyid])
    sign_batch([market / "in/bob/b1.csv"], source="bob", batch="b1", key="carl.pem")
    old, other = replace(entry, not_after="2020-01-01T00:00:00+00:00"), replace(entry, roles=("promoter",))
    for keys, expected in (((entry,), {}), *(((it,), {"bob/b1": "signature"}) for it in (old, other))):
        replace(workspace.keyring, keys=keys).save(workspace.keyring_path)
        assert take(market) == expected
    payload = base64.b64decode(canonical.loads((market / "in/ann/b1.csv.dsse.json").read_bytes())["payload"])
    replace(workspace.keyring, keys=(entry,), revoked=frozenset([canonical.sha256(payload)])).save(
        workspace.keyring_path
    )
    assert take(market) == {"ann/b1": "signature"}


def test_assay_yaml_takes_the_rules_by_path_and_keeps_places_out_of_the_manifest(market: Path) -> None:
    example = {
        "schema": "assay.config/v1",
        "sources": [{"name": "ann", "uri": "in/ann/b1.csv"}],
        "ingest": {"sources": "sources.yaml"},
        "policy": {"rules": [{"rule": "sound"}]},
    }
    (market / "assay.yaml").write_text(yaml.safe_dump(example))
    config = Config.load(market / "assay.yaml")
    assert config.ingest.sources["bob"].prefixes == (str(market / "in/bob"),)
    assert config.ingest.sources == read_sources(market / "sources.yaml").rules


def test_a_rule_nobody_could_meet_and_an_unknown_key_are_usage_errors(market: Path) -> None:
    change(market, "bob", keys=[])
    with pytest.raises(UnfitInput, match="require_signature: false"):
        read_sources(market / "sources.yaml")
    change(market, "bob", key="x")
    with pytest.raises(UnknownName, match="Did you mean 'keys'"):
        read_sources(market / "sources.yaml")


INSIDE = [
    ("s3://in/a", "s3://in/a/b.csv"),
    ("s3://in/a/", "s3://in/a/b/c.csv"),
    ("s3://in", "s3://in/x"),
    ("s3://in/a", "s3://in/a/b.csv?versionId=1"),
    ("/d", "/d/e"),
]
OUTSIDE = [
    ("s3://in/a", "s3://in/a-evil/b.csv"),
    ("s3://in/a", "s3://in-evil/a/b.csv"),
    ("s3://in", "s3://in-evil/b.csv"),
    ("s3://in/a", "s3://in/a/../b/c.csv"),
    ("s3://in/a", "s3://in/a//b.csv"),
    ("s3://in/a", "s3://in/A/b.csv"),
    ("s3://in/a", "s3://IN/a/b.csv"),
    ("s3://in/a", "s3://in@evil/a/b.csv"),
    ("s3://in/a", "s3://in/a/b.csv?acl"),
    ("s3://in/a", "s3://in/a/../b.csv?versionId=1"),
    ("s3://in/a", "/in/a/b.csv"),
    ("/data/a", "/data/a/../b.csv"),
    ("/data/a", "/data/ab.csv"),
    ("/data/a", "file:///data/a/%2e%2e/b.csv"),
    ("/data/a", "file:///data/a/%2E./b.csv"),
    ("/data/a", "s3://data/a/b.csv"),
    ("/data/a", "http://host/data/a/b.csv"),
]


@pytest.mark.parametrize(("prefix", "uri"), INSIDE)
def test_a_place_below_a_prefix_is_the_source_s(prefix: str, uri: str) -> None:
    require_place(parse(SourceConfig, {"name": "s", "uri": uri}, "s"), rule(prefix))


@pytest.mark.parametrize(("prefix", "uri"), OUTSIDE)
def test_a_place_that_only_looks_like_it_is_not(prefix: str, uri: str) -> None:
    with pytest.raises(AssayError):
        require_place(parse(SourceConfig, {"name": "s", "uri": uri}, "s"), rule(prefix))
    source = {"name": "s", "uri": prefix.rstrip("/") + "/x.idx", "labels_uri": uri}
    with pytest.raises(AssayError):  # labels are held to the same places
        require_place(parse(SourceConfig, source, "s"), rule(prefix))


def rule(*prefixes: str) -> SourceRule:
    return parse(SourceRule, {"prefixes": list(prefixes), "require_signature": False}, "rule")


SEGMENT = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=4)


@settings(max_examples=300, deadline=None)
@given(inside=st.lists(SEGMENT | st.sampled_from([".", "..", ""]), max_size=5), escape=st.booleans())
def test_no_spelling_of_a_path_leaves_its_prefix(inside: list[str], escape: bool) -> None:
    """Property: what passes lies below the prefix by the file system's own rules."""
    uri = "/data/a/" + "/".join(inside) + ("/../b" if escape else "")
    try:
        require_place(parse(SourceConfig, {"name": "s", "uri": uri}, "s"), rule("/data/a"))
    except (Refused, UnfitInput):
        return
    assert Path(uri).resolve().is_relative_to("/data/a")
    assert place_of(uri)[:3] == ("file", "/", "data")


def test_no_changed_byte_of_a_signature_lets_a_batch_in(market: Path) -> None:
    envelope = market / "in/bob/b1.csv.dsse.json"
    good, rng = envelope.read_bytes(), random.Random(7)
    for _ in range(60):
        data = bytearray(good)
        data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        envelope.write_bytes(data)
        assert take(market) == {"bob/b1": "signature"}


@pytest.mark.parametrize(("trusted", "loser"), [("bob", "ann"), ("ann", "bob")])
def test_a_batch_whose_columns_do_not_fit_is_rejected_alone(
    market: Path, capsys: pytest.CaptureFixture[str], trusted: str, loser: str
) -> None:
    """Of two that differ the trusted one stands, whatever they are called; the others come in."""
    (market / "in" / loser / "b1.csv").write_text(table(1).replace("x,y,label", "x,z,label"))
    sign_batch([market / "in" / loser / "b1.csv"], source=loser, batch="b1", key=f"{loser}.pem")
    change(market, trusted, trust="trusted")
    (market / "in/cat").mkdir()
    (market / "in/cat/b1.csv").write_text(table(2))
    batches = [{"batch": "b1", "uri": "in/cat/b1.csv"}]
    write(market, rules_of(market) | {"cat": {"prefixes": ["in/cat"], "require_signature": False, "batches": batches}})
    code, document = ingest(capsys, "ann", "bob", "cat")
    assert (code, rejected(document)) == (1, {f"{loser}/b1": "content"})
    said = document["rejected"][0]["reason"]
    assert said.startswith(f"batch {loser}/b1: column 'y': got no such column, need double, as in batch {trusted}/b1")
    assert (market / "out/quarantine/rejected" / loser / "b1" / "data").is_file()
    assert {it.source for it in Dataset.load(market / "out/dataset").manifest.history.sources} == {"cat"}


def test_a_label_of_no_class_rejects_its_batch_alone(market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (market / "in/bob/b1.csv").write_text(table(1).replace(",b\n", ",nobody\n", 1))
    sign_batch([market / "in/bob/b1.csv"], source="bob", batch="b1", key="bob.pem")
    (market / "classes.yaml").write_text("classes: [a, b]\n")
    code, document = ingest(capsys, "ann", "bob", "--config", "classes.yaml")
    assert (code, rejected(document)) == (1, {"bob/b1": "content"})
    assert "'nobody'" in document["rejected"][0]["reason"]
