"""Keep one of each file that promotion and serving write: ``python tests/compat/make_serving_museum.py FOLDER``.

A store with two promotions and a rollback, its key list with every field, the memory of a server, and the bundle.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


def main(museum: Path) -> None:
    import pytest
    from trace_cases import CHAMPION, tell

    from assay.rollback import rollback
    from assay.serving import fetch
    from assay.signing import payload_digest

    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        folder = Path(temporary)
        story = tell(folder / "story")
        workspace = story.workspace
        patch.setenv("ASSAY_HOME", str(workspace.home))
        rollback(CHAMPION, 1, reason="kept as an example")
        revoked = payload_digest(story.other.decision_path.read_bytes())
        policy = fetch(CHAMPION, folder / "served", bundle=folder / "bundle")["policy"]
        keyring = replace(
            workspace.keyring,
            revoked=frozenset({revoked}),
            revoked_keys=frozenset({"0" * 64}),
            thresholds={"promoter": 1},
            policies=frozenset({policy}),
        )
        keyring.save(folder / "keys.json")
        museum.mkdir(parents=True)
        for name in ("bundle", "served.seen.json", "keys.json"):
            source, target = folder / name, museum / name.removeprefix("served.")
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
        shutil.copytree(workspace.home / "ledger", museum / "store")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
