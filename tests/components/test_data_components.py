"""ingest and sanitize as the pipeline calls them: the components' own bodies, on stand-in artifacts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kfp import dsl

from assay.components.ingest.component import ingest
from assay.components.sanitize.component import sanitize
from assay.data.dataset import Dataset


def artifact(kind: type[Any], folder: Path, name: str) -> Any:
    """As kfp hands it over: the parent is there, the path is not."""
    return kind(name=name, uri=str(folder / name))


def sources(folder: Path) -> str:
    rng = np.random.default_rng(0)
    for name in ("v", "t"):
        f = rng.normal(size=60)
        f[7] = np.nan if name == "v" else f[7]
        pq.write_table(pa.table({"f": f, "label": np.arange(60) % 3}), folder / f"{name}.parquet")
    trust = {"v": "untrusted", "t": "trusted"}
    return json.dumps([{"name": n, "uri": str(folder / f"{n}.parquet"), "trust": t} for n, t in trust.items()])


def test_both_bodies_write_their_outputs_and_what_the_page_shows(tmp_path: Path) -> None:
    made = {name: artifact(dsl.Dataset, tmp_path, name) for name in ("dataset", "calibration", "holdout", "kept")}
    first, second = artifact(dsl.Artifact, tmp_path, "quarantine"), artifact(dsl.Artifact, tmp_path, "left")
    counts, after = artifact(dsl.Metrics, tmp_path, "m1"), artifact(dsl.Metrics, tmp_path, "m2")
    summary, page = artifact(dsl.Markdown, tmp_path, "summary.md"), artifact(dsl.HTML, tmp_path, "page.html")
    docs = artifact(dsl.HTML, tmp_path, "docs")
    ingest.python_func(
        sources=sources(tmp_path), config="", run="r1", dataset=made["dataset"], calibration=made["calibration"],
        holdout=made["holdout"], quarantine=first, metrics=counts, summary=summary,
    )  # fmt: skip
    assert counts.metadata == {"kept": 60, "quarantined": 0}
    assert "| v/v | untrusted | 60 |" in Path(summary.path).read_text()
    sanitize.python_func(
        dataset=made["dataset"], calibration=made["calibration"], config='{"removal_cap": 0.2}', run="r1",
        kept=made["kept"], quarantine=second, metrics=after, page=page, docs=docs,
    )  # fmt: skip
    assert after.metadata == {"kept": 59, "quarantined": 1}
    assert Dataset.load(second.path).record_ids == ["v/v:7"]
    assert Path(page.path).read_text().startswith("<!DOCTYPE html>")
    assert 'href="./docs"' in Path(page.path).read_text()
    assert "Great Expectations" in Path(docs.path).read_text()


@pytest.mark.parametrize("component", [ingest, sanitize], ids=["ingest", "sanitize"])
def test_every_input_and_output_is_described(component: Any) -> None:
    spec = component.component_spec
    assert all(entry.description for entry in spec.inputs.values())
    assert all(f"        {name}: " in component.python_func.__doc__ for name in {**spec.inputs, **spec.outputs})


def test_the_steps_import_inside_a_task_where_kfp_has_no_decorators() -> None:
    code = "import assay.components, assay.components.ingest, assay.ingest.step, assay.sanitize.step, assay.quarantine"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "_KFP_RUNTIME": "true"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.slow
def test_ingest_sanitize_and_release_run_without_torch(tmp_path: Path) -> None:
    given = json.loads(sources(tmp_path))[0]["uri"]
    code = f"""
import sys
from assay.cli.main import run
assert run(["ingest", "v={given}", "--out", "o"]) == 0
assert run(["sanitize", "o/dataset", "--out", "k", "--quarantine", "q", "--page", "p.html"]) == 0
assert run(["quarantine", "release", "q", "--kept", "k", "--out", "b"]) == 0
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("v.parquet", "t.parquet", "o", "k", "q", "b", "p.html", ".assay")
    }
