"""What the poison filter would have found in the records that a model learned from, as its manifest says.

The filter's self-test writes its estimates into the history of what it keeps; the model names the records it learned
from by the digest of their manifest. So the numbers are those of this model's records, and the evaluator signs them.
"""

from __future__ import annotations

from assay.errors import UnfitInput
from assay.estimate import Estimate
from assay.incidents import manifest_of
from assay.ledger import Ledger

STEP, PARAMETER, NAME = "filter_poison", "power", "filter_power"

__all__ = ["filter_power"]


def filter_power(dataset: str, ledger: Ledger) -> dict[str, Estimate]:
    """The estimates ``filter_power`` and ``filter_power/<trigger>`` of the last filter before training.

    Goes from a dataset to the one it was made from, as long as that is a single one; empty where no filter is found,
    its self-test did not run, or the ledger lacks a manifest.

    Args:
        dataset: manifest digest of the records a model learned from.
        ledger: which holds the manifests.

    Raises:
        Refused: a manifest that is another than its name says.
        UnfitInput: numbers that are no estimates.
    """
    seen: set[str] = set()
    while dataset and dataset not in seen:
        seen.add(dataset)
        found = manifest_of(ledger, dataset)
        if found is None:
            return {}
        if found.history.step == STEP:
            return _estimates(found.history.parameters.get(PARAMETER, {}), dataset)
        dataset = found.history.parents[0] if len(found.history.parents) == 1 else ""
    return {}


def _estimates(given: object, dataset: str) -> dict[str, Estimate]:
    if not isinstance(given, dict) or any(name.split("/")[0] != NAME for name in given):
        raise UnfitInput(f"manifest {dataset[:12]}: {PARAMETER}", repr(given)[:200], f"estimates named {NAME}")
    return {name: Estimate.from_json(estimate) for name, estimate in given.items()}
