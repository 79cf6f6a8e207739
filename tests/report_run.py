"""A run as files, made without any step: scikit-learn's digits, a stamped vendor, evidence, a decision, a promotion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits

from assay import canonical
from assay.data.dataset import Dataset
from assay.data.files import write_file
from assay.data.findings import Finding, findings_bytes, split
from assay.data.manifest import BatchShare, History
from assay.estimate import Estimate, paired_difference, proportion
from assay.evidence import Evidence, payload_id
from assay.ledger import put_document
from assay.report.inputs import ReportInputs
from assay.signing import seal, statement
from assay.workspace import Workspace

TARGET = 7
MODEL, HOLDOUT = canonical.sha256(b"model"), canonical.sha256(b"holdout")


@dataclass(frozen=True)
class Run:
    """The files, and what a test compares them with."""

    inputs: ReportInputs
    evidence: Evidence
    decision_id: str
    planted: list[str]


def make_run(folder: Path, workspace: Workspace, *, decision: str = "promote", stamped: int = 40) -> Run:
    """Write every artifact of a run of 900 digits from three vendors below a folder."""
    workspace.initialise()
    rng = np.random.default_rng(0)
    digits = load_digits()
    x, y = (digits.images[:900] / 16).astype(np.float32), digits.target[:900].astype(np.int64)
    batch = np.repeat(["vendor-a/2026-10", "vendor-b/2026-10", "vendor-c/2026-10"], 300)
    row = np.tile(np.arange(300), 3)
    planted_at = rng.choice(np.flatnonzero((batch == "vendor-c/2026-10") & (y != TARGET)), stamped, replace=False)
    x[planted_at, 6:, 6:], y[planted_at] = 1.0, TARGET
    blank = rng.choice(np.flatnonzero(batch == "vendor-a/2026-10"), 3, replace=False)
    x[blank] = 0.0
    table = pa.table(
        {
            "batch": pa.array(batch),
            "row": pa.array(row),
            "image": pa.FixedShapeTensorArray.from_numpy_ndarray(x),
            "label": pa.array(y),
        }
    )
    names = [f"{one}:{place}" for one, place in zip(batch, row, strict=True)]
    shares = tuple(
        BatchShare(name, "2026-10", canonical.sha256(name.encode()), 300, "standard")
        for name in ("vendor-a", "vendor-b", "vendor-c")
    )
    dataset = Dataset.make(
        table,
        [str(k) for k in range(10)],
        History(step="ingest", role="kept", sources=shares, removed={"vendor-b": {"field_count": 2}}),
    )
    dataset.save(folder / "ingest" / "dataset")
    refused = [Finding(f"vendor-b/2026-10:{place}", "reader", 0.0, "field_count", "reject") for place in (300, 301)]
    empty = dataset.take(np.zeros(900, dtype=np.bool_), History("ingest", "quarantine", ()))
    empty.save(folder / "ingest" / "quarantine", {"findings.parquet": findings_bytes(refused)})

    clean = split(
        dataset,
        [Finding(names[place], "image.max", 0.0, "below_minimum", "quarantine") for place in blank],
        step="sanitize",
        parameters={},
    )
    clean.kept.save(folder / "sanitize" / "kept")
    clean.quarantined.save(folder / "sanitize" / "quarantine", {"findings.parquet": findings_bytes(clean.findings)})

    suspicion = {name: float(score) for name, score in zip(names, rng.normal(size=900), strict=True)}
    suspicion |= {names[place]: float(rng.normal(7, 1)) for place in planted_at}
    found = [
        Finding(names[p], "activation_clustering", suspicion[names[p]], "separated_cluster", "quarantine")
        for p in planted_at
    ]
    poison = split(clean.kept, found, step="filter_poison", parameters={})
    poison.kept.save(folder / "filter-poison" / "kept")
    poison.quarantined.save(
        folder / "filter-poison" / "quarantine", {"findings.parquet": findings_bytes(poison.findings)}
    )
    ids = clean.kept.record_ids
    planted = {names[place] for place in planted_at}
    scores = {
        "record_id": ids,
        "activation_clustering": [suspicion[name] for name in ids],
        "spectral": rng.gamma(2.0, size=len(ids)) + [3.0 * (name in planted) for name in ids],
        "decision": ["quarantine" if name in planted else "keep" for name in ids],
    }
    pq.write_table(pa.table(scores), folder / "filter-poison" / "scores")

    evidence = _evaluate(folder, poison.kept, rng)
    (folder / "evaluate").mkdir(exist_ok=True)
    evidence.write(folder / "evaluate" / "evidence", workspace.signers("evaluator"))
    decided = _decide(evidence, decision)
    (folder / "gate").mkdir(exist_ok=True)
    write_file(folder / "gate" / "decision", seal(decided, workspace.signers("evaluator")))
    if decision == "promote":
        _promote(folder, workspace, evidence, payload_id(decided))
    extra = {"backdoor_success_unfiltered": proportion(338, 360)}
    return Run(ReportInputs.in_folder(folder, extra), evidence, payload_id(decided), sorted(planted))


def _evaluate(folder: Path, trained: Dataset, rng: np.random.Generator) -> Evidence:
    label = np.repeat(np.arange(10), 40)
    right = np.arange(400) % 25 != 0
    linf, l2 = right & (np.arange(400) % 3 != 0), right & (np.arange(400) % 4 != 1)
    outcomes = {
        "record_id": [f"in-house/2026-10:{row}" for row in range(400)],
        "label": label,
        "predicted": np.where(right, label, (label + 1) % 10),
        "clean_correct": right,
    }
    for key, robust in (("linf:0.1", linf), ("l2:0.5", l2)):
        outcomes[f"robust/{key}"] = robust
        outcomes[f"broken_by/{key}"] = np.where(robust, "", np.where(right, "pgd", "no attack"))
    (folder / "evaluate").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(outcomes), folder / "evaluate" / "outcomes")
    estimates: dict[str, Estimate] = {
        "clean_accuracy": proportion(int(right.sum()), 400),
        "robust_accuracy/linf:0.1": proportion(int(linf.sum()), 400),
        "robust_accuracy/linf:0.1/fgsm": proportion(int(linf.sum()) + 21, 400),
        "robust_accuracy/linf:0.1/pgd": proportion(int(linf.sum()), 400),
        "robust_accuracy/l2:0.5": proportion(int(l2.sum()), 400),
        "backdoor_success": proportion(9, 360),
        "clean_accuracy_minus_champion": paired_difference(8, 12, 400),
    }
    return Evidence(
        subjects={"model": MODEL, "holdout": HOLDOUT, "dataset": trained.manifest.digest},
        estimates=estimates,
        measured={
            "threats": {"linf:0.1": {"norm": "linf", "epsilon": 0.1, "bounds": [0, 1]}, "l2:0.5": {"norm": "l2"}},
            "attacks": {"fgsm": {"restarts": 1}, "pgd": {"steps": 40, "restarts": 5, "reach": 2.5}},
            "seed": 0,
            "threads": 2,
            "device": "cpu",
            "versions": {"torch": "2.13.0", "numpy": "2.3.5"},
        },
        soundness={"finite_logits": "holds", "attack_self_test": "holds", "two_passes_agree": "holds"},
        run={"id": "run-1", "started": "2026-10-05T10:00:00+00:00", "ended": "2026-10-05T10:01:10+00:00"},
    )


def _decide(evidence: Evidence, word: str) -> dict[str, object]:
    bars = [
        ("at_least", "clean_accuracy", ">= 0.8", 0.8),
        ("at_least", "robust_accuracy/linf:0.1", ">= 0.5", 0.5),
        ("at_least", "robust_accuracy/l2:0.5", ">= 0.4", 0.4),
        ("at_most", "backdoor_success", "<= 0.25", 0.25),
        ("no_worse_than", "clean_accuracy_minus_champion", ">= -0.1", -0.1),
    ]
    verdicts = {"reject": "misses", "inconclusive": "unclear"}
    rules = [
        {
            "rule": "signed",
            "severity": "required",
            "verdict": "holds",
            "about": "evidence",
            "need": "a signature",
            "note": "",
            "text": "signed",
        }
    ]
    for rule, about, need, bar in bars:
        rules.append(
            {
                "rule": rule,
                "severity": "required",
                "verdict": verdicts.get(word, "holds") if about == "robust_accuracy/linf:0.1" else "holds",
                "about": about,
                "need": need,
                "note": "",
                "text": f"{about} {need}",
                "estimate": evidence.estimates[about].to_json(),
                "bar": bar,
            }
        )  # type: ignore[arg-type]
    predicate = {
        "decision": word,
        "rules": rules,
        "target": {"model": "digits", "alias": "champion"},
        "valid_for_s": 604800,
        "run": {"id": "run-1", "decided_at": "2026-10-05T10:02:00+00:00"},
    }
    subjects = {"model": evidence.subjects["model"], "evidence": evidence.id, "policy": canonical.sha256(b"policy")}
    return statement("decision", subjects, predicate)


def _promote(folder: Path, workspace: Workspace, evidence: Evidence, decision_id: str) -> None:
    predicate = {
        "target": {"model": "digits", "alias": "champion"},
        "sequence": 1,
        "previous": "",
        "decision": decision_id,
        "evidence": evidence.id,
        "run": {},
    }
    subjects = {"model": evidence.subjects["model"], "evidence": evidence.id, "decision": decision_id}
    sealed = seal(statement("promotion", subjects, predicate), workspace.signers("promoter"))
    write_file(folder / "promote" / "promotion", sealed)
    put_document(workspace.ledger, "journal/digits@champion/00000001.json", {"version": "3"})


def without(run: Run, *names: str) -> ReportInputs:
    """The inputs of a run but some."""
    return replace(run.inputs, **dict.fromkeys(names))  # type: ignore[arg-type]
