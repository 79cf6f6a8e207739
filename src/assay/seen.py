"""What a server has seen: the highest promotion of every target, so that no older one passes for the last.

The ledger alone cannot tell: whoever may delete its newest promotion makes the one before it the last. The file is
canonical JSON, ``{"schema": "assay.seen/v1", "targets": {"<model>@<alias>": {"sequence": n, "promotion": id}}}``.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay import canonical
from assay.config.root import Target
from assay.data.files import TEMPORARY, fsync_folder
from assay.errors import Refused, UnfitInput
from assay.promotions import Promotion, place_of

SCHEMA = "assay.seen"

__all__ = ["Seen"]


@dataclass(frozen=True)
class Seen:
    """The file, held by one process at a time.

    Fields:
        path: of the file.
        targets: what it said, by ``<model>@<alias>``.
    """

    path: Path
    targets: dict[str, dict[str, Any]]

    @classmethod
    @contextmanager
    def held(cls, path: Path) -> Iterator[Seen]:
        """Read the file and keep other processes from it; one that is missing has seen nothing.

        Raises:
            UnfitInput: a file of another form: it may have known better, so it never counts as empty.
        """
        if path.is_dir():
            raise UnfitInput(str(path), "a folder", "a file that remembers what was seen")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f"{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield cls(path, _read(path) if path.exists() else {})

    def require(self, promotions: list[Promotion], target: Target) -> None:
        """Refuse a history that ends before, or says something else about, what was seen.

        Raises:
            Refused: a rollback, or two histories.
        """
        known = self.targets.get(place_of(target))
        if known is None:
            return
        fix = "The ledger lost or changed promotions. To go back on purpose: assay promote --rollback-to."
        if len(promotions) < known["sequence"]:
            got = f"promotion {len(promotions)} as the last"
            raise Refused(f"target {place_of(target)}", got, f"{known['sequence']}, seen before, or later", fix)
        if promotions[known["sequence"] - 1].id != known["promotion"]:
            got = f"another promotion {known['sequence']} than was seen before"
            raise Refused(f"target {place_of(target)}", got, known["promotion"][:12], fix)

    def note(self, promotion: Promotion) -> None:
        """Write down that a promotion was seen, whole. The lock is held, so one temporary name serves every writer."""
        entry = {place_of(promotion.target): {"sequence": promotion.sequence, "promotion": promotion.id}}
        part = self.path.with_name(f"{TEMPORARY}{self.path.name}")
        with part.open("wb") as stream:
            stream.write(canonical.dumps({"schema": f"{SCHEMA}/v1", "targets": self.targets | entry}))
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, self.path)
        fsync_folder(self.path.parent)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    document = canonical.require_schema(canonical.read(path), SCHEMA, str(path))
    targets = document.get("targets")
    for entry in targets.values() if isinstance(targets, dict) else [targets]:
        facts = entry if isinstance(entry, dict) else {}
        sequence = facts.get("sequence")
        if type(sequence) is not int or sequence < 1 or not isinstance(facts.get("promotion"), str):
            raise UnfitInput(str(path), "entries of another form", "sequence (from 1) and promotion by target")
    return dict(document["targets"])
