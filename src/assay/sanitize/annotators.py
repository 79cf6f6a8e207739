"""Several annotators per record: what they agree on, how far each can be trusted, and which labels that contradicts."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from assay import canonical
from assay.config.sanitize import AnnotatorsConfig
from assay.data.dataset import Dataset, labels
from assay.data.findings import Finding
from assay.errors import UnfitInput
from assay.estimate import proportion

HEADER = ("record_id", "annotator", "label")
MAX_BYTES = 2**28
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

__all__ = ["Annotations", "Consensus", "consensus", "dawid_skene", "findings_of", "kappa", "read_annotations", "votes"]


@dataclass(frozen=True)
class Annotations:
    """Who said what of which record.

    Fields:
        records: ids, sorted; annotators: names, sorted; classes: names.
        item, who, said: positions in these, one entry an annotation, (M,).
    """

    records: tuple[str, ...]
    annotators: tuple[str, ...]
    classes: tuple[str, ...]
    item: Ints
    who: Ints
    said: Ints


@dataclass(frozen=True)
class Consensus:
    """Dawid and Skene's model of annotators, fitted.

    Fields:
        posterior: (I, K) probability of every class for every record.
        confusion: (A, K, K) probability that an annotator says the last index where the class is the middle one.
        prior: (K,) share of every class.
    """

    posterior: Floats
    confusion: Floats
    prior: Floats


def read_annotations(path: Path | str, classes: tuple[str, ...]) -> Annotations:
    """Read a CSV of ``record_id, annotator, label``, one annotation a line.

    Raises:
        UnfitInput: another header, a line of another width, an empty cell, a label of no class, or a record that one
            annotator labelled twice.
    """
    where = str(path)
    try:
        text = canonical.read_bytes(path, MAX_BYTES).decode("utf-8-sig")
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UnfitInput(where, f"{type(error).__name__}: {error}", "a CSV in UTF-8") from error
    if not lines or tuple(lines[0]) != HEADER:
        raise UnfitInput(where, f"a header {lines[:1]}", ",".join(HEADER))
    known = {name: place for place, name in enumerate(classes)}
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(HEADER) or not all(line) or line[2] not in known or (line[0], line[1]) in seen:
            raise UnfitInput(f"{where}: record {number}", repr(line)[:200], "a class, once per record and annotator")
        seen.add((line[0], line[1]))
    if not seen:
        raise UnfitInput(where, "no annotation", "at least one")
    records, item = np.unique([line[0] for line in lines[1:]], return_inverse=True)
    annotators, who = np.unique([line[1] for line in lines[1:]], return_inverse=True)
    said = np.array([known[line[2]] for line in lines[1:]], dtype=np.int64)
    names = tuple(map(str, records)), tuple(map(str, annotators))
    return Annotations(*names, classes, item.astype(np.int64), who.astype(np.int64), said)


def votes(given: Annotations) -> Floats:
    """Votes for every class of every record, (I, K); the majority is where they are most."""
    counts = np.zeros((len(given.records), len(given.classes)))
    np.add.at(counts, (given.item, given.said), 1)
    return counts


def consensus(given: Annotations, how: str) -> Floats:
    """How sure every class of every record is, (I, K): Dawid and Skene's posterior, or the share of the votes."""
    if how == "dawid_skene":
        return dawid_skene(given).posterior
    counts = votes(given)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def dawid_skene(given: Annotations, rounds: int = 200, tolerance: float = 1e-8) -> Consensus:
    """Consensus of annotators that err each in their own way, by expectation maximisation from the majority.

    One imagined agreement and a hundredth of every error is added to each annotator's counts, so that nobody is ever
    certain after a handful of answers.

    Reference: Dawid and Skene. Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm. 1979.
    """
    size = len(given.classes)
    counts = votes(given)
    posterior = counts / counts.sum(axis=1, keepdims=True)
    pseudo = np.full((size, size), 0.01) + np.eye(size)
    for _ in range(rounds):
        prior = (posterior.sum(axis=0) + 0.01) / (len(posterior) + 0.01 * size)
        confusion = np.zeros((len(given.annotators), size, size))
        np.add.at(confusion.transpose(0, 2, 1), (given.who, given.said), posterior[given.item])
        confusion += pseudo
        confusion /= confusion.sum(axis=2, keepdims=True)
        logs = np.tile(np.log(prior), (len(posterior), 1))
        np.add.at(logs, given.item, np.log(confusion)[given.who, :, given.said])
        following = np.exp(logs - logs.max(axis=1, keepdims=True))
        following /= following.sum(axis=1, keepdims=True)
        moved, posterior = float(np.abs(following - posterior).max()), following
        if moved < tolerance:
            break
    return Consensus(posterior, confusion, prior)


def kappa(first: Ints, second: Ints, classes: int) -> float:
    """Cohen's kappa of two label lists: agreement beyond chance, 1 for full, 0 for none; 1 where chance is full too.

    Reference: Cohen. A Coefficient of Agreement for Nominal Scales. 1960.
    """
    table = np.zeros((classes, classes))
    np.add.at(table, (first, second), 1)
    table /= table.sum()
    chance = float(table.sum(axis=0) @ table.sum(axis=1))
    return 1.0 if chance == 1 else float((np.trace(table) - chance) / (1 - chance))


def findings_of(
    dataset: Dataset, trusted: Dataset | None, config: AnnotatorsConfig
) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Records whose label the annotators contradict, and what is known of every annotator.

    Args:
        dataset: the records under test; annotations of other records count for the annotators only.
        trusted: whose labels are the gold standard, or None.
        config: file, posterior and action.

    Returns:
        findings, score the consensus's probability; per annotator ``annotator, answers, kappa`` (with the consensus)
        and ``gold``, the share of trusted records labelled right, as an estimate, or None without any.
    """
    given = read_annotations(config.file, dataset.manifest.content.classes)
    posterior = consensus(given, config.consensus)
    best = posterior.argmax(axis=1)
    place = {name: at for at, name in enumerate(given.records)}
    found = []
    for name, label in zip(dataset.record_ids, labels(dataset).tolist(), strict=True):
        at = place.get(name)
        if at is not None and best[at] != label and posterior[at, best[at]] >= config.posterior:
            score = float(posterior[at, best[at]])
            found.append(Finding(name, "annotators", score, "annotators_disagree", config.action))
    gold = dict(zip(trusted.record_ids, labels(trusted).tolist(), strict=True)) if trusted is not None else {}
    truth = np.array([gold.get(name, -1) for name in given.records], dtype=np.int64)
    return found, [_facts(given, who, best, truth) for who in range(len(given.annotators))]


def _facts(given: Annotations, who: int, best: Ints, truth: Ints) -> dict[str, Any]:
    mine = given.who == who
    said, items = given.said[mine], given.item[mine]
    checked = truth[items] >= 0
    right, count = int((said == truth[items])[checked].sum()), int(checked.sum())
    return {
        "annotator": given.annotators[who],
        "answers": int(mine.sum()),
        "kappa": kappa(said, best[items].astype(np.int64), len(given.classes)),
        "gold": proportion(right, count).to_json() if count else None,
    }
