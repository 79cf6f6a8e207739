"""The bundle of a promotion: everything it rests on in one folder, for anybody to verify offline with public keys.

    promotion.dsse.json         who promoted what to where, in which order; every file of the model by digest
    decision.dsse.json          the policy, one verdict a rule, target and expiry
    evidence.dsse.json          what was measured, with which attacks, settings and seeds, by which code and image
    model/                      the model: specification, weights, golden inputs with the outputs they gave
    manifests/<digest>.json     of the hold-out, of the training data, and of all they were made from

`assay.verify.verify` takes the folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from assay.data.files import whole_folder
from assay.data.manifest import Manifest
from assay.ledger import Ledger
from assay.lineage import ancestors
from assay.promotions import Promotion, name_of

__all__ = ["write_bundle"]


def write_bundle(made: Promotion, datasets: Iterable[str], ledger: Ledger, out: Path) -> Path:
    """Write the bundle of a verified promotion whole.

    Args:
        made: the promotion.
        datasets: manifest digests of its evidence: hold-out, and training data where there is any.
        ledger: holds it all.
        out: the folder; one that is there with the same bytes is left as it is.

    Raises:
        UnfitInput: a document that the ledger does not hold, or a folder with other content.
    """
    manifests: dict[str, Manifest] = {}
    for digest in datasets:
        manifests |= ancestors(digest, ledger)
    names = {
        "promotion.dsse.json": name_of(made.target, made.sequence),
        "decision.dsse.json": f"decisions/{made.decision}.dsse.json",
        "evidence.dsse.json": f"evidence/{made.evidence}.dsse.json",
    }
    names |= {f"manifests/{digest}.json": f"manifests/{digest}.json" for digest in manifests}
    prefix = f"models/{made.model}/"
    names |= {f"model/{name.removeprefix(prefix)}": name for name in ledger.names(prefix)}
    with whole_folder(out) as folder:
        for path, name in names.items():
            (folder / path).parent.mkdir(exist_ok=True)
            ledger.copy(name, folder / path)
    return out
