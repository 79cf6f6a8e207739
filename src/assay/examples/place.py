"""Where an example lies on disk: written once, whole, under a name that its settings give."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay import canonical, catalog
from assay.data.files import whole_folder
from assay.data.records import RecordId

PLANTED = "planted.json"

__all__ = ["Placed", "place"]


@dataclass(frozen=True)
class Placed:
    """An example on disk.

    Fields:
        config: path of its ``assay.yaml``.
        planted: the records the example poisoned; empty for a clean one.
    """

    config: Path
    planted: tuple[RecordId, ...]


def place(name: str, home: Path, *, clean: bool = False) -> Placed:
    """Write an example below ``home/examples`` unless it is there already.

    Args:
        name: member of ``examples``.
        home: of the workspace.
        clean: leave out what the example plants.

    Raises:
        UnknownName: no such example.
    """
    example: Any = catalog.build("examples", name)
    if clean:
        example = replace(example, planted=0, batch=f"{example.batch}-clean")
    folder = home / "examples" / f"{name}-{canonical.digest(catalog.settings(example))[:8]}"
    if not folder.exists():
        with whole_folder(folder) as temporary:
            _, planted = example.write(temporary)
            (temporary / PLANTED).write_bytes(canonical.dumps([str(record) for record in planted]))
    planted = tuple(RecordId.parse(text) for text in json.loads((folder / PLANTED).read_bytes()))
    return Placed(folder / "assay.yaml", planted)
