"""The report: says what the files say, marks what does not verify, survives what is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_run import MODEL, Run, make_run, without

from assay import canonical
from assay.data.dataset import Dataset
from assay.data.findings import read_findings
from assay.errors import UnfitInput, UnknownName
from assay.estimate import proportion
from assay.report.custody import broken, chain
from assay.report.facts import gather
from assay.report.inputs import ReportInputs
from assay.report.page import write_report
from assay.report.text import cell, estimate
from assay.signing import peek, seal
from assay.workspace import Workspace

NAMES = ReportInputs.__dataclass_fields__.keys() - {"extra"}
LINKED = {"dataset", "kept", "filtered", "evidence", "decision", "promotion"}  # of these the chain is made
MISSING = [
    ("dataset", "scores"),
    ("kept", "outcomes", "ingest_quarantine"),
    ("filtered", "sanitize_quarantine"),
    ("filter_quarantine",),
    ("evidence", "promotion"),
    ("decision",),
]


def first_two(cases: list[tuple[str, ...]]) -> list[Any]:
    """The others take a second each."""
    return [*cases[:2], *(pytest.param(case, marks=pytest.mark.slow) for case in cases[2:])]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def place(home: Path) -> Workspace:
    root = home / ".assay"
    keys = {role: str(root / "keys" / f"{role}.pem") for role in ("evaluator", "promoter")}
    return Workspace(root, str(root / "ledger"), root / "keys" / "keys.json", keys, f"sqlite:///{root}/mlflow.db")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(home: Path, place: Workspace) -> Run:
    return make_run(home / "run", place)


@pytest.fixture(scope="module")
def other(home: Path, place: Workspace) -> Run:
    """Another run, which was rejected."""
    return make_run(home / "other", place, decision="reject", stamped=30)


@pytest.fixture(scope="module")
def page(run: Run, place: Workspace, home: Path) -> str:
    """The page about the run."""
    return text(run.inputs, place, home / "page.html")


def text(inputs: ReportInputs, place: Workspace, out: Path) -> str:
    write_report(inputs, out, run="run-1", workspace=place)
    return out.read_text("utf-8")


def banner(page: str) -> str:
    """What the page says first, as text."""
    found = re.search(r'<div class="banner.*?</div>', page, re.S)
    assert found
    return " ".join(re.sub(r"<[^>]+>", " ", found[0]).split())


class Elements(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_verdict_comes_first_with_version_and_alias(page: str) -> None:
    assert banner(page) == "✓ promote All 6 required rules hold. digits version 3 has the alias champion."
    assert page.index('class="banner') < page.index("<h2>")


def test_the_page_says_every_number_and_digest_that_the_files_hold(run: Run, page: str) -> None:
    for name, value in {**run.evidence.estimates, **run.inputs.extra}.items():
        assert name in page, name
        assert estimate(value) in page, name
    folders = (run.inputs.dataset, run.inputs.kept, run.inputs.filtered)
    digests = {Dataset.load(folder).manifest.digest for folder in folders if folder}
    for value in (*digests, MODEL, run.evidence.id, run.decision_id):
        assert f'<code class="digest">{value}</code>' in page
    for reason, count in (("below_minimum", 3), ("field_count", 2), ("separated_cluster", 40)):
        assert re.search(rf'<td>{reason}</td><td class="n">{count}</td>', page), reason
    for source, kept, removed in (("vendor-a", 297, 3), ("vendor-b", 300, 2), ("vendor-c", 260, 40)):
        assert f'<td>{source}</td><td class="n">{kept}</td><td class="n">{removed}</td>' in page


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("reject", "✕ reject 1 of 6 required rules missed: robust_accuracy/linf:0.1 &gt;= 0.5. Nothing was promoted."),
        ("inconclusive", "? inconclusive 1 of 6 required rules unclear or not measured: robust_accuracy/linf:0.1"),
    ],
)
def test_what_did_not_hold_is_named_first(word: str, says: str, place: Workspace, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", place, decision=word)
    page = text(run.inputs, place, tmp_path / "page.html")
    assert banner(page).startswith(says)
    assert 'class="banner good"' not in page


def test_a_promotion_that_was_not_recorded_is_not_claimed(run: Run, place: Workspace, tmp_path: Path) -> None:
    page = text(without(run, "promotion"), place, tmp_path / "page.html")
    assert "Whether digits@champion was moved is not part of this page" in banner(page)
    assert "version 3" not in page


@pytest.mark.slow
def test_equal_inputs_give_equal_bytes_in_another_process_and_place_without_torch(
    run: Run, page: str, place: Workspace, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(Path(str(run.inputs.dataset)).parents[1], moved)
    (tmp_path / "matplotlibrc").write_text(
        "font.size: 22\naxes.facecolor: red\nsvg.hashsalt: other\nxtick.major.size: 20\naxes.linewidth: 5\n"
    )
    code = (
        "import sys; from pathlib import Path; from assay.estimate import proportion\n"
        "from assay.report.page import write_report; from assay.report.inputs import ReportInputs\n"
        "extra = {'backdoor_success_unfiltered': proportion(338, 360)}\n"
        "write_report(ReportInputs.in_folder(Path(sys.argv[1]), extra), sys.argv[2], run='run-1')\n"
        "sys.exit('torch' in sys.modules)"
    )
    out = tmp_path / "second.html"
    environment = {**os.environ, **place.environment(), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code, str(moved), str(out)], cwd=tmp_path, env=environment, check=True)
    assert out.read_text("utf-8") == page


def test_the_page_needs_nothing_from_outside_and_runs_nothing(page: str) -> None:
    assert len(page) < 2_000_000
    elements = Elements(page).tags
    assert not {tag for tag, _ in elements} & {"script", "link", "iframe", "object", "embed", "form", "base", "audio"}
    for tag, attributes in elements:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("src", "href", "xlink:href", "srcset", "action", "data"):
                assert str(value).startswith(("#", "data:image/png;base64,")), (tag, name, value)
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    assert "@import" not in page
    assert "default-src 'none'" in next(a["content"] or "" for t, a in elements if a.get("http-equiv"))


def test_ids_are_unique_and_every_reference_has_its_target(page: str) -> None:
    ids = [str(attributes["id"]) for _, attributes in Elements(page).tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', page)
    assert {first or second for first, second in used} <= set(ids)


@pytest.mark.parametrize("names", first_two(MISSING), ids="+".join)
def test_a_missing_input_is_said_to_be_not_measured(
    names: tuple[str, ...], run: Run, place: Workspace, tmp_path: Path
) -> None:
    page = text(without(run, *names), place, tmp_path / "page.html")
    assert "not measured" in page
    assert "It could not be" not in page
    assert banner(page).startswith("? no decision" if "decision" in names else "✓ promote")


def test_a_page_about_nothing_promotes_nothing(place: Workspace, tmp_path: Path) -> None:
    page = text(ReportInputs(), place, tmp_path / "page.html")
    assert banner(page) == "? no decision This run did not provide it. Nothing here promotes a model."
    assert "good" not in re.findall(r'class="(?:badge|banner) (\w+)"', page)


@pytest.mark.parametrize(
    "names", first_two([tuple(sorted(NAMES - LINKED)), *((name,) for name in sorted(LINKED))]), ids="+".join
)
def test_an_input_that_is_garbage_is_named_and_is_no_pass(
    names: tuple[str, ...], run: Run, place: Workspace, tmp_path: Path
) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(b"\x00garbage")
    page = text(replace(run.inputs, **dict.fromkeys(names, path)), place, tmp_path / "page.html")  # type: ignore[arg-type]
    for name in names:
        assert f"<strong>{name.replace('_', ' ')}: not measured.</strong> It could not be read" in page
    assert banner(page).startswith("✓ promote") == LINKED.isdisjoint(names)


def test_files_of_odd_shapes_cost_their_section_only(run: Run, place: Workspace, tmp_path: Path) -> None:
    pq.write_table(pa.table({"record_id": [{"a": 1}], "spectral": [1.0]}), tmp_path / "scores")
    outcomes = {"record_id": ["a"], "label": [None], "clean_correct": ["x"]}
    pq.write_table(pa.table(outcomes), tmp_path / "outcomes")
    document = peek(Path(str(run.inputs.evidence)).read_bytes())
    odd = {"soundness": {"a": 1}, "measured": {"threats": 7, "attacks": [None, {"x": []}]}}
    document["predicate"] |= odd
    (tmp_path / "evidence").write_bytes(seal(document))
    manifest = canonical.read(run.inputs.places["dataset"] / "manifest.json")  # type: ignore[operator]
    shutil.copytree(run.inputs.places["dataset"], tmp_path / "dataset")
    manifest["history"]["removed"] = {"vendor-a": 3}
    (tmp_path / "dataset" / "manifest.json").write_bytes(canonical.dumps(manifest))
    files = {name: tmp_path / name for name in ("scores", "outcomes", "evidence", "dataset")}
    page = text(replace(run.inputs, **files), place, tmp_path / "page.html")  # type: ignore[arg-type]
    assert banner(page).startswith("✕ chain broken")
    assert "filter: not measured.</strong> It could not be shown: " in page
    assert "Labelled as 7" not in page
    assert 'id="custody"' in page


def test_one_changed_record_breaks_the_chain(run: Run, place: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    shutil.copytree(str(run.inputs.filtered), folder)
    part = folder / "data" / "part-00000.parquet"
    table = pq.read_table(part)
    labels = table["label"].to_numpy().copy()
    labels[0] = (labels[0] + 1) % 10
    pq.write_table(table.set_column(table.column_names.index("label"), "label", pa.array(labels)), part)
    page = text(replace(run.inputs, filtered=folder), place, tmp_path / "page.html")
    assert banner(page).startswith("✕ chain broken The decision says promote")
    assert 'class="banner bad"' in page


def test_an_unsigned_decision_is_not_verified_and_a_forged_one_is_refused(
    run: Run, place: Workspace, tmp_path: Path
) -> None:
    document = peek(Path(str(run.inputs.decision)).read_bytes())
    unsigned, forged = tmp_path / "unsigned", tmp_path / "forged"
    unsigned.write_bytes(seal(document))
    forged.write_bytes(seal(document, place.signers("promoter")))
    page = text(replace(run.inputs, decision=unsigned), place, tmp_path / "page.html")
    assert banner(page) == "? not verified The decision says promote, but: It is not signed."
    page = text(replace(run.inputs, decision=forged), place, tmp_path / "page.html")
    assert banner(page).startswith("✕ not verified The decision says promote, but: decision envelope: signature")
    assert 'class="banner bad"' in page


def test_a_decision_that_promotes_against_its_own_rules_is_not_shown_as_a_promotion(
    run: Run, place: Workspace, tmp_path: Path
) -> None:
    document = peek(Path(str(run.inputs.decision)).read_bytes())
    document["predicate"]["rules"][1]["verdict"] = "unclear"
    (tmp_path / "decision").write_bytes(seal(document, place.signers("evaluator")))
    inputs = replace(without(run, "promotion"), decision=tmp_path / "decision")
    assert banner(text(inputs, place, tmp_path / "page.html")).startswith("✕ not coherent")


def test_a_decision_changed_after_signing_is_not_verified(
    run: Run, other: Run, place: Workspace, tmp_path: Path
) -> None:
    signed = canonical.read(Path(str(other.inputs.decision)))
    changed = signed | {"payload": canonical.read(Path(str(run.inputs.decision)))["payload"]}
    path = tmp_path / "decision"
    path.write_bytes(canonical.dumps(changed))
    page = text(replace(run.inputs, decision=path), place, tmp_path / "page.html")
    assert banner(page).startswith("✕ not verified")


@pytest.mark.parametrize(
    ("name", "link"),
    [("evidence", "decision"), ("decision", "promotion"), ("filtered", "model"), ("kept", "dataset after sanitize")],
)
def test_a_file_of_another_run_breaks_the_chain_where_it_was_swapped(
    name: str, link: str, run: Run, other: Run, place: Workspace, tmp_path: Path
) -> None:
    swapped = replace(run.inputs, **{name: getattr(other.inputs, name)})
    gaps = [gap.name for gap in broken(chain(gather(swapped, place)))]
    assert link in gaps
    assert not broken(chain(gather(run.inputs, place)))
    if name == "evidence":
        assert banner(text(swapped, place, tmp_path / "page.html")).startswith("✕ chain broken")


def test_a_record_that_vanished_between_two_steps_is_seen(run: Run, place: Workspace, tmp_path: Path) -> None:
    part = Dataset.load(str(run.inputs.filter_quarantine))
    folder = tmp_path / "quarantine"
    part.take(pa.array(range(1, len(part))).to_numpy(), part.manifest.history).save(folder)
    facts = gather(replace(run.inputs, filter_quarantine=folder), place)
    assert [link.says for link in broken(chain(facts))] == [
        "It was made from the one above; kept and quarantined records together are not its input."
    ]


def test_outcomes_that_the_evidence_does_not_count_are_not_shown(
    run: Run, page: str, place: Workspace, tmp_path: Path
) -> None:
    assert "The outcomes are not" not in page
    table = pq.read_table(str(run.inputs.outcomes))
    right = table["clean_correct"].to_numpy(zero_copy_only=False).copy()
    right[0] = not right[0]
    changed = table.set_column(table.column_names.index("clean_correct"), "clean_correct", pa.array(right))
    pq.write_table(changed, tmp_path / "outcomes")
    page = text(replace(run.inputs, outcomes=tmp_path / "outcomes"), place, tmp_path / "page.html")
    assert "The outcomes are not those that the signed evidence counts." in page


def test_records_by_class_are_what_counting_gives(run: Run, page: str) -> None:
    outcomes = pq.read_table(str(run.inputs.outcomes)).to_pandas()
    of = outcomes[outcomes["label"] == 3]
    cells = [cell(proportion(int(of[name].sum()), len(of))) for name in ("clean_correct", "robust/linf:0.1")]
    assert f'<td>3</td><td class="n">40</td><td>{cells[0]}</td><td>{cells[1]}</td>' in page


def test_pictures_of_the_removed_stand_beside_clean_ones_of_their_class(run: Run, page: str) -> None:
    removed = page.split("Labelled as 7: quarantined")[1].split("Labelled as 7: kept")
    shown = [re.findall(r'alt="([^"]+)"', part.split("</ul>")[0]) for part in removed]
    findings = read_findings((run.inputs.places["filter_quarantine"] / "findings.parquet").read_bytes())
    worst = sorted(findings, key=lambda finding: -finding.score)
    assert shown[0] == [finding.record_id for finding in worst[:10]]
    assert len(shown[1]) == 10
    assert not set(shown[1]) & set(run.planted)


def test_a_table_without_images_has_no_pictures_and_no_fault(run: Run, place: Workspace, tmp_path: Path) -> None:
    part = Dataset.load(str(run.inputs.filter_quarantine))
    flat = part.table.append_column("size", pa.array([1.5] * len(part))).drop_columns(["image"])
    Dataset.make(flat, part.manifest.content.classes, replace(part.manifest.history, findings="")).save(
        tmp_path / "flat"
    )
    page = text(replace(run.inputs, filter_quarantine=tmp_path / "flat"), place, tmp_path / "page.html")
    assert "<img" not in page
    assert "vendor-c/2026-10" in page


def test_inputs_are_found_in_a_runs_folder_and_two_of_one_name_are_refused(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "robust-training-2026"
    shutil.copytree(Path(str(run.inputs.decision)).parent, folder / "gate")
    assert ReportInputs.in_folder(tmp_path).places == {"decision": folder / "gate" / "decision"}
    shutil.copytree(folder / "gate", tmp_path / "again" / "gate")
    with pytest.raises(UnfitInput, match="2 outputs gate/decision"):
        ReportInputs.in_folder(tmp_path)
    with pytest.raises(UnfitInput, match="no output of a run"):
        ReportInputs.in_folder(folder / "gate")
    with pytest.raises(UnknownName, match="Did you mean 'decision'"):
        ReportInputs.of({"decison": folder})
