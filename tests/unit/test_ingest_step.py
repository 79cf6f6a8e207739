"""The step: batches bound before anything is made of them, trusted records kept apart, nothing half-written."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import binom

from assay import canonical
from assay.config.base import parse
from assay.config.ingest import IngestConfig, SourceConfig, parse_sources
from assay.contain import contain
from assay.data.dataset import Dataset, labels
from assay.errors import Conflict, Refused, UnfitInput, UnknownName
from assay.ingest.rows import Rows
from assay.ingest.step import ingest, ingest_json
from assay.quarantine import Quarantine
from assay.workspace import Workspace


def write(folder: Path, name: str, rows: int = 30, seed: int = 0, **columns: Any) -> Path:
    rng = np.random.default_rng([seed, *name.encode()])
    made = {
        "f": rng.normal(size=rows),
        "g": rng.integers(0, 9, rows),
        "label": [f"{k % 3}" for k in range(rows)],
    } | columns
    path = folder / f"{name}.parquet"
    pq.write_table(pa.table(made), path)
    return path


def source(path: Path, name: str = "", **given: Any) -> SourceConfig:
    return parse(SourceConfig, {"name": name or path.stem, "uri": str(path)} | given, "source")


def run(
    sources: list[SourceConfig], out: Path, config: dict[str, Any] | None = None, *, split: bool = True
) -> dict[str, Any]:
    return ingest(
        sources,
        parse(IngestConfig, config or {}, "ingest"),
        dataset=out / "dataset",
        calibration=out / "calibration" if split else None,
        holdout=out / "holdout" if split else None,
        quarantine=out / "quarantine",
    )


def parts(out: Path) -> dict[str, Dataset]:
    return {path.name: Dataset.load(path) for path in sorted(out.iterdir())}


def test_every_record_is_in_exactly_one_part(tmp_path: Path) -> None:
    a, b, t = write(tmp_path, "a"), write(tmp_path, "b", 20), write(tmp_path, "t", 50)
    document = run([source(a), source(b), source(t, trust="trusted")], tmp_path / "o")
    made = parts(tmp_path / "o")
    ids = Counter(name for part in made.values() for name in part.record_ids)
    assert ids == Counter(f"{s}/{s}:{k}" for s, n in (("a", 30), ("b", 20), ("t", 50)) for k in range(n))
    assert {name.partition("/")[0] for name in made["dataset"].record_ids} == {"a", "b"}
    assert {name.partition("/")[0] for part in ("calibration", "holdout") for name in made[part].record_ids} == {"t"}
    assert document["kept"] == 50
    assert document["dataset"]["digest"] == made["dataset"].manifest.digest
    shares = {it.source: (it.sha256, it.records, it.trust) for it in made["dataset"].manifest.history.sources}
    assert shares == {"a": (canonical.file_digest(a), 30, "standard"), "b": (canonical.file_digest(b), 20, "standard")}


def test_the_batch_is_bound_in_the_ledger_to_its_bytes(tmp_path: Path, workspace: Workspace) -> None:
    a = write(tmp_path, "a")
    run([source(a, batch="2026-01")], tmp_path / "o", split=False)
    assert canonical.loads(workspace.ledger.get("batches/a/2026-01.json")) == {
        "schema": "assay.batch/v1",
        "source": "a",
        "batch": "2026-01",
        "sha256": canonical.file_digest(a),
        "files": [{"role": "data", "sha256": canonical.file_digest(a), "bytes": a.stat().st_size}],
    }
    digest = Dataset.load(tmp_path / "o" / "dataset").manifest.digest
    assert f"manifests/{digest}.json" in workspace.ledger.names("manifests/")


def test_the_same_batch_again_ends_in_the_same_state(tmp_path: Path, workspace: Workspace) -> None:
    sources = [source(write(tmp_path, "a")), source(write(tmp_path, "t", 40), trust="trusted")]
    first = run(sources, tmp_path / "o")
    names = workspace.ledger.names()
    assert run(sources, tmp_path / "o") == first
    assert run(list(reversed(sources)), tmp_path / "p")["dataset"]["digest"] == first["dataset"]["digest"]
    assert workspace.ledger.names() == names
    for part in ("dataset", "calibration", "holdout", "quarantine"):
        assert canonical.tree_files(tmp_path / "o" / part) == canonical.tree_files(tmp_path / "p" / part)


def test_a_name_with_other_bytes_is_a_conflict_and_leaves_nothing(tmp_path: Path, workspace: Workspace) -> None:
    run([source(write(tmp_path, "b"))], tmp_path / "o", split=False)
    names = workspace.ledger.names()
    changed = source(write(tmp_path, "b", seed=1))
    with pytest.raises(Conflict, match="batches/b/b"):
        run([changed, source(write(tmp_path, "a")), source(write(tmp_path, "c"))], tmp_path / "p", split=False)
    assert not (tmp_path / "p").exists()
    assert workspace.ledger.names() == names


def test_a_refused_batch_does_not_take_its_name(tmp_path: Path, workspace: Workspace) -> None:
    with pytest.raises(UnfitInput, match="one class"):
        run([source(write(tmp_path, "a", label=["x"] * 30))], tmp_path / "o", split=False)
    assert workspace.ledger.names() == []
    run([source(write(tmp_path, "a"))], tmp_path / "o", split=False)


def test_copies_of_a_trusted_record_are_on_one_side(tmp_path: Path) -> None:
    """The split looks at features and label alone, so a copy of a hold-out record is never in calibration."""
    base = np.arange(40.0)
    t = write(
        tmp_path,
        "t",
        120,
        f=np.tile(base, 3),
        g=np.zeros(120, np.int64),
        label=["01"[int(k) % 2] for k in np.tile(base, 3)],
    )
    run(
        [source(write(tmp_path, "a", g=np.arange(30))), source(t, trust="trusted")],
        tmp_path / "o",
        {"classes": ["0", "1", "2"]},
    )
    made = parts(tmp_path / "o")
    sides = {name: set(made[name].table["f"].to_pylist()) for name in ("calibration", "holdout")}
    assert sides["calibration"].isdisjoint(sides["holdout"])
    assert all(len(made[name]) == 3 * len(sides[name]) for name in sides)


def test_the_share_held_out_is_the_configured_one_and_salt_changes_the_side(tmp_path: Path) -> None:
    """Statistical: 2,000 records at share 0.3, two-sided binomial bounds missed at most once in 10**6."""
    sources = [source(write(tmp_path, "a")), source(write(tmp_path, "t", 2000), trust="trusted")]
    held = []
    for salt in ("one", "two"):
        run(sources, tmp_path / salt, {"holdout_share": 0.3, "salt": salt})
        held.append(set(Dataset.load(tmp_path / salt / "holdout").record_ids))
        assert binom.ppf(5e-7, 2000, 0.3) <= len(held[-1]) <= binom.ppf(1 - 5e-7, 2000, 0.3)
    assert binom.ppf(5e-7, 2000, 0.09) <= len(held[0] & held[1]) <= binom.ppf(1 - 5e-7, 2000, 0.09)


@pytest.mark.parametrize("overlap", ["quarantine", "flag"])
def test_a_copy_of_a_hold_out_record_never_trains_a_model_unseen(tmp_path: Path, overlap: str) -> None:
    """A supplier that copies trusted records, under labels of its own, would make a model look better than it is."""
    t = write(tmp_path, "t", 40)
    table = pq.read_table(t)
    copies = {"f": table["f"], "g": table["g"], "label": ["0", "1"] * 20}
    document = run(
        [source(write(tmp_path, "a", 40, **copies)), source(write(tmp_path, "b")), source(t, trust="trusted")],
        tmp_path / "o",
        {"overlap": overlap},
    )
    made = parts(tmp_path / "o")
    held = [int(name.rpartition(":")[2]) for name in made["holdout"].record_ids]
    expected = [f"a/a:{row}" for row in held]
    findings = Quarantine.load(tmp_path / "o" / "quarantine").findings
    assert [it.record_id for it in findings] == sorted(expected)
    assert {(it.reason, it.action) for it in findings} == {("holdout_record", overlap)}
    assert made["quarantine"].record_ids == (expected if overlap == "quarantine" else [])
    assert document["reasons"] == ({"holdout_record": len(held)} if overlap == "quarantine" else {})
    assert set(expected).isdisjoint(made["dataset"].record_ids) == (overlap == "quarantine")


def test_rows_no_schema_can_hold_are_kept_raw_with_the_file_s_bytes(tmp_path: Path) -> None:
    lines = ["x,label", *(f"{k},{'ab'[k % 2]}" for k in range(30))]
    lines[7], lines[9] = "1,000,a", "007,b"
    (tmp_path / "v.csv").write_text("\n".join(lines))
    document = run([source(tmp_path / "v.csv")], tmp_path / "o", split=False)
    assert document["reasons"] == {"field_count": 1, "number_format": 1}
    held = Quarantine.load(tmp_path / "o" / "quarantine")
    assert [(row["batch"], row["row"], row["line"], base64.b64decode(row["bytes"])) for row in held.raw] == [
        ("v/v", 6, 8, b"1,000,a"),
        ("v/v", 8, 10, b"007,b"),
    ]
    kept = Dataset.load(tmp_path / "o" / "dataset")
    assert Counter(kept.record_ids) + Counter(it.record_id for it in held.findings) == Counter(
        f"v/v:{k}" for k in range(30)
    )
    assert kept.manifest.history.removed == {"v": {"field_count": 1, "number_format": 1}}
    (tmp_path / "o" / "quarantine" / "raw.jsonl").write_bytes(b"")
    with pytest.raises(UnfitInput, match=r"raw\.jsonl"):
        Quarantine.load(tmp_path / "o" / "quarantine")


@pytest.mark.parametrize(
    ("given", "classes", "expected", "values"),
    [
        (["b", "a", "c"], [], ("a", "b", "c"), [1, 0, 2]),
        ([10, 9, -1], [], ("-1", "9", "10"), [2, 1, 0]),
        (["10", "9", "1"], [], ("1", "9", "10"), [2, 1, 0]),
        ([0, 2, 1], ["shirt", "shoe", "hat"], ("shirt", "shoe", "hat"), [0, 2, 1]),
        ([1, 0, 1], ["1", "0"], ("1", "0"), [0, 1, 0]),
        ([True, False, True], [], ("false", "true"), [1, 0, 1]),
        (["é", "z", "a"], [], ("a", "z", "é"), [2, 1, 0]),
    ],
)
def test_labels_become_positions_among_the_classes(
    tmp_path: Path, given: list[Any], classes: list[str], expected: tuple[str, ...], values: list[int]
) -> None:
    run([source(write(tmp_path, "a", 3, label=given))], tmp_path / "o", {"classes": classes}, split=False)
    made = Dataset.load(tmp_path / "o" / "dataset")
    assert made.manifest.content.classes == expected
    assert labels(made).tolist() == values


@pytest.mark.parametrize(
    ("given", "classes", "words"),
    [
        (["a", "b", "x"], ["a", "b"], "'x'.*one of the classes a, b"),
        ([0, 1, 3], ["p", "q", "r"], "'3'"),
        ([0, 1, 5], ["0", "1"], "'5'"),
        (["cat", "c\u0430t", "dog"], [], "ambiguous"),
        (["cat", "cat ", "dog"], [], "ambiguous"),
        (["a", "a", "a"], ["a", "b"], "one class"),
        (["a", "b", "a"], ["a", "b", "a"], "each class once"),
    ],
)
def test_labels_that_are_no_class_or_pose_as_one_are_refused(
    tmp_path: Path, given: list[Any], classes: list[str], words: str
) -> None:
    with pytest.raises(UnfitInput, match=words):
        run([source(write(tmp_path, "a", 3, label=given))], tmp_path / "o", {"classes": classes}, split=False)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"g": np.zeros(30)}, "column 'g': got double, need int64, as in batch a/a"),
        ({"h": np.zeros(30)}, "column 'h': got double, need no such column"),
        ({"f": [None] * 30}, "column 'f'"),
        ({"f": [np.nan] * 30}, "no finite value"),
        ({"f": [np.inf] * 30}, "no finite value"),
    ],
)
def test_batches_of_another_schema_or_without_values_are_refused(
    tmp_path: Path, columns: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnfitInput, match=words):
        run([source(write(tmp_path, "a")), source(write(tmp_path, "b", **columns))], tmp_path / "o", split=False)
    assert not (tmp_path / "o").exists()


def test_columns_in_another_order_are_joined_by_name(tmp_path: Path) -> None:
    table = pq.read_table(write(tmp_path, "a"))
    pq.write_table(table.select(["label", "g", "f"]), tmp_path / "b.parquet")
    run([source(tmp_path / "a.parquet"), source(tmp_path / "b.parquet")], tmp_path / "o", split=False)
    made = Dataset.load(tmp_path / "o" / "dataset").table
    assert made["f"].to_pylist() == table["f"].to_pylist() * 2


def test_the_hold_out_needs_a_trusted_source_and_a_trusted_source_needs_a_hold_out(tmp_path: Path) -> None:
    a, t = source(write(tmp_path, "a")), source(write(tmp_path, "t"), trust="trusted")
    with pytest.raises(UnfitInput, match="no trusted source"):
        run([a], tmp_path / "o")
    with pytest.raises(UnfitInput, match="folders for calibration and hold-out"):
        run([a, t], tmp_path / "o", split=False)
    with pytest.raises(UnfitInput, match="all on one side"):
        run([a, source(write(tmp_path, "s", 1, label=["0"]), trust="trusted")], tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_trusted_sources_alone_give_an_empty_training_set_to_measure_a_model_on(tmp_path: Path) -> None:
    document = run([source(write(tmp_path, "t", 40), trust="trusted")], tmp_path / "o")
    assert document["kept"] == 0
    assert document["calibration"]["records"] + document["holdout"]["records"] == 40
    assert len(Dataset.load(tmp_path / "o" / "dataset")) == 0


def test_a_place_that_holds_something_else_stops_the_step_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "o" / "dataset").mkdir(parents=True)
    (tmp_path / "o" / "dataset" / "mine.txt").write_text("mine")
    with pytest.raises(UnfitInput, match="something else"):
        run([source(write(tmp_path, "a")), source(write(tmp_path, "t"), trust="trusted")], tmp_path / "o")
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["dataset"]
    assert [path.name for path in (tmp_path / "o" / "dataset").iterdir()] == ["mine.txt"]


def test_file_uris_and_labels_beside_images_are_read(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (6, 4, 4)).astype("u1")
    (tmp_path / "my images-ubyte").write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 6, 0, 0, 0, 4, 0, 0, 0, 4]) + x.tobytes())
    (tmp_path / "y-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 6, *(k % 2 for k in range(6))]))
    given = {"name": "v", "batch": "b", "labels_uri": str(tmp_path / "y-ubyte")}
    uri = (tmp_path / "my images-ubyte").as_uri()
    assert "%20" in uri
    run([parse(SourceConfig, given | {"uri": uri}, "source")], tmp_path / "o", split=False)
    made = Dataset.load(tmp_path / "o" / "dataset")
    np.testing.assert_array_equal(made.table["image"].chunk(0).to_numpy_ndarray(), x)
    digests = {
        role: canonical.file_digest(tmp_path / name)
        for role, name in (("data", "my images-ubyte"), ("labels", "y-ubyte"))
    }
    assert made.manifest.history.sources[0].sha256 == canonical.digest(digests)


def test_sources_travel_as_json_text(tmp_path: Path) -> None:
    a, t = write(tmp_path, "a"), write(tmp_path, "t", 40)
    text = json.dumps([{"name": "a", "uri": str(a)}, {"name": "t", "uri": str(t), "trust": "trusted"}])
    places = {
        name: str(tmp_path / "o" / name) for name in ("dataset", "calibration", "holdout", "quarantine", "summary")
    }
    document = ingest_json(text, '{"holdout_share": 0.4}', **places)
    assert document["kept"] == 30
    rows = (tmp_path / "o" / "summary").read_text().splitlines()
    assert rows[2:] == [
        "| a/a | standard | 30 | 0 | 0 | 0 | 0 |",
        f"| t/t | trusted | 0 | {document['calibration']['records']} | {document['holdout']['records']} | 0 | 0 |",
    ]
    for broken, kind in (("[]", UnfitInput), ('{"a": 1}', UnfitInput), ('[{"name": "a", "url": "x"}]', UnknownName)):
        with pytest.raises(kind):
            parse_sources(broken)


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("a/2024-03.csv.gz", "2024-03"),
        ("s3://b/k/v1.parquet", "v1"),
        ("t10k-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte"),
    ],
)
def test_a_batch_is_named_after_its_file(uri: str, name: str) -> None:
    assert parse(SourceConfig, {"name": "s", "uri": uri}, "source").batch_name == name


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assay.ingest.readers.parquet import Parquet

    a, chunks = write(tmp_path, "a"), Parquet.chunks

    def changing(*given: Any) -> Iterator[Rows]:
        yield from chunks(*given)
        write(tmp_path, "a", seed=9)

    monkeypatch.setattr(Parquet, "chunks", changing)
    with pytest.raises(UnfitInput, match="changed while read"):
        run([source(a)], tmp_path / "o", split=False)


# incidents


@pytest.fixture
def delivered(workspace: Workspace, tmp_path: Path) -> list[SourceConfig]:
    """Two vendors and a trusted source, ingested once, in a workspace with keys."""
    workspace.initialise()
    sources = [source(write(tmp_path, name), batch="1") for name in ("bad", "good")]
    sources.append(source(write(tmp_path, "own", 60), batch="1", trust="trusted"))
    run(sources, tmp_path / "before")
    return sources


@pytest.mark.parametrize("ref", ["source:bad", "batch:bad/1"])
def test_a_batch_that_an_incident_is_about_is_refused(
    workspace: Workspace, tmp_path: Path, delivered: list[SourceConfig], ref: str
) -> None:
    contain(ref, workspace, apply=True)
    with pytest.raises(Refused, match="batch bad/1: got one that incident"):
        run(delivered, tmp_path / "after")
    assert not (tmp_path / "after").exists()
    run(delivered[1:], tmp_path / "without")


def test_where_sources_have_rules_such_a_batch_is_rejected_and_the_others_come_in(
    workspace: Workspace, tmp_path: Path, delivered: list[SourceConfig]
) -> None:
    contain("batch:bad/1", workspace, apply=True)
    rule = {"prefixes": [str(tmp_path)], "require_signature": False}
    rules = {"bad": rule, "good": rule, "own": rule | {"trust": "trusted"}}
    (rejected,) = run(delivered, tmp_path / "after", {"sources": rules})["rejected"]
    assert (rejected["batch"], rejected["check"]) == ("bad/1", "incident")


def test_a_record_that_an_incident_is_about_is_quarantined(
    workspace: Workspace, tmp_path: Path, delivered: list[SourceConfig]
) -> None:
    contain("record:bad/1:7", workspace, apply=True)
    document = run(delivered, tmp_path / "after")
    assert document["reasons"] == {"named_by_incident": 1}
    made = parts(tmp_path / "after")
    assert made["quarantine"].record_ids == ["bad/1:7"]
    assert len(made["dataset"]) == 59


def test_a_trusted_record_that_an_incident_is_about_is_refused(
    workspace: Workspace, tmp_path: Path, delivered: list[SourceConfig]
) -> None:
    contain("record:own/1:7", workspace, apply=True)
    with pytest.raises(Refused, match="record own/1:7: got a trusted record"):
        run(delivered, tmp_path / "after")
