"""The champion: the model that the last promotion of a target names, read from the ledger and from nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from assay import canonical, promotions
from assay.config.root import Target
from assay.errors import Refused
from assay.ledger import Ledger
from assay.workspace import Workspace

__all__ = ["champion_folder", "find_champion"]


def find_champion(workspace: Workspace, target: Target, besides: str) -> str:
    """Digest of the model that was promoted last, other than ``besides``; empty before the first promotion.

    Raises:
        Refused: a promotion of the target that does not verify.
    """
    return promotions.champion(promotions.history(workspace.ledger, workspace.keyring, target), besides)


@contextmanager
def champion_folder(ledger: Ledger, model: str) -> Iterator[Path]:
    """The files of a promoted model in a temporary folder, whose digest is the promoted one.

    Raises:
        Refused: the ledger does not hold the files, or holds others.
    """
    prefix = f"models/{model}/"
    with TemporaryDirectory(prefix="assay-champion-") as temporary:
        folder = Path(temporary)
        for name in ledger.names(prefix):
            target = folder / name.removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(ledger.get(name))
        if not any(folder.iterdir()):
            raise Refused(f"champion {model[:12]}", "no files in the ledger", "those that were promoted")
        got = canonical.tree_digest(canonical.tree_files(folder))
        if got != model:
            raise Refused(f"champion {model[:12]}", f"files with digest {got[:12]}", "those that were promoted")
        yield folder
