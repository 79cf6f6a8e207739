"""The serving check: from an alias to a verified private copy of the model behind it, or nothing.

    1. the signed promotions of the target hold, first to last; the last is the one that counts
    2. MLflow's alias stands at that promotion's version, and the version carries its tag
    3. it is not older than what was served here before, nor past what its policy allows
    4. it is the model or decision that the deployment names, if it names one
    5. the decision says promote and the evidence is the one decided on: both signed, for this model and target
    6. no open incident reaches the model
    7. its files are copied into a private folder, and the COPY has the promoted digest
    8. with ``replay``: the copy gives the golden outputs that were recorded when it was trained
    9. what was seen is written down, and the copy takes its name by a rename

Whatever fails leaves the folder as it was: a server that runs keeps the model it has, one that starts does not get
ready. Public keys are enough, and nothing of the model is loaded but for the replay.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from assay.bundle import write_bundle
from assay.claim import LEEWAY, Claim
from assay.config.root import Target
from assay.data.files import fsync_folder, temporary_folder
from assay.errors import AssayError, Refused, UnfitInput
from assay.incidents import require_unaffected
from assay.models.spec import FILES, model_digest, read_spec
from assay.promotions import Promotion, history, place_of
from assay.registry import TAG, Registry
from assay.seen import Seen
from assay.workspace import Workspace

ANNOTATIONS = {"model": "assay/model-digest", "decision": "assay/decision-id", "sequence": "assay/promotion-sequence"}

__all__ = ["ANNOTATIONS", "fetch"]


def fetch(
    target: Target,
    out: Path,
    *,
    workspace: Workspace | None = None,
    registry: bool = True,
    model: str = "",
    decision: str = "",
    seen: Path | None = None,
    replay: bool = False,
    bundle: Path | None = None,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Verify what a target promises to serve and put it where a server may load it.

    Args:
        target: registered model and alias.
        out: folder of the model; readable by this user alone. One that is there is replaced, only when all holds.
        workspace: ledger, public keys and MLflow; default from the environment.
        registry: ask MLflow where its alias stands; without, the signed promotions alone say what to serve.
        model: the digest that the model must have, such as that of a pod's annotation; empty for any.
        decision: the id of the decision that it must rest on; empty for any.
        seen: file that keeps the highest sequence seen, by target; default ``<out>.seen.json`` beside ``out``. It is
            as good as the place it lies in: one that outlives the pod refuses a rollback for the next pod too.
        replay: load the copy (needs torch) and compare its golden outputs.
        bundle: a folder to write everything into that was verified here; see `assay.bundle`.
        now: the instant at which it is served; default this one.

    Returns:
        ``verified`` (true), ``model`` (``name``, ``version``, ``digest``, ``path``), ``alias``, ``sequence``,
        ``rollback_to`` (0 for none), ``promotion``, ``decision``, ``evidence``, ``policy``, ``until`` (ISO instant or
        empty), ``replayed`` and ``annotations``, which a deployment may carry into its payload logs.

    Raises:
        Refused: any of the steps says no.
        Unreachable: MLflow or the store does not answer.
        UnfitInput: a folder, a list of keys or a file of sequences that cannot be used.
    """
    workspace = workspace or Workspace.from_env()
    now = now or datetime.now(UTC)
    ledger, keyring = workspace.ledger, workspace.keyring
    _require_usable(out)
    promotions = history(ledger, keyring, target)
    if not promotions:
        raise Refused(f"target {place_of(target)}", "no signed promotion", "one", "assay promote makes one.")
    head = promotions[-1]
    version = _version(head, Registry(workspace)) if registry else ""
    with Seen.held(seen or out.with_name(f"{out.name}.seen.json")) as remembered:
        remembered.require(promotions, target)
        claim = Claim.standing(head, ledger, keyring)
        until = _require_current(head, claim, now)
        _require_wanted(head, model, decision)
        require_unaffected(head.model, claim.measured.datasets, ledger, keyring)
        with _private_copy(head, workspace, out) as copy:
            if replay:
                _replay(copy)
            if bundle is not None:
                write_bundle(head, claim.measured.data, ledger, bundle)
            remembered.note(head)
            _hand_over(copy, out)
    annotations = {"model": head.model, "decision": head.decision, "sequence": str(head.sequence)}
    return {
        "verified": True,
        "model": {"name": target.model, "version": version, "digest": head.model, "path": str(out)},
        "alias": target.alias,
        "sequence": head.sequence,
        "rollback_to": head.origin_sequence if head.is_rollback else 0,
        "promotion": head.id,
        "decision": head.decision,
        "evidence": head.evidence,
        "policy": claim.policy,
        "until": until.isoformat() if until else "",
        "replayed": replay,
        "annotations": {ANNOTATIONS[name]: value for name, value in annotations.items()},
    }


def _require_usable(out: Path) -> None:
    """What is at ``out`` may be replaced: a model folder, an empty folder, or nothing."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UnfitInput(str(out), "a link or a file", "a folder, or nothing")
    if out.is_dir() and not {path.name for path in out.iterdir()} <= FILES:
        raise UnfitInput(str(out), "a folder with other files than a model's", "a model folder, or an empty one")


def _version(head: Promotion, registry: Registry) -> str:
    """The version MLflow's alias stands at, provided it is the one of the last promotion."""
    place, found = place_of(head.target), registry.aliases(head.target.model).get(head.target.alias, "")
    fix = "assay audit lists what was moved by hand, assay promote --reconcile finishes what a crash left."
    if not found:
        raise Refused(f"MLflow alias {place}", "no version", f"that of promotion {head.sequence}", fix)
    tags = registry.tags(head.target.model, found)
    if tags.get(TAG) != head.origin:
        raise Refused(
            f"MLflow alias {place}",
            f"version {found}, of promotion {tags.get('assay.sequence', 'none')}",
            f"that of promotion {head.origin_sequence}, the last that is signed",
            fix,
        )
    return found


def _require_current(head: Promotion, claim: Claim, now: datetime) -> datetime | None:
    """Not of the future, not past the time its policy lets it be served; returns the end of that time."""
    until = head.promoted_at + timedelta(seconds=claim.serve_for_s) if claim.serve_for_s else None
    if now < head.promoted_at - LEEWAY or (until is not None and now >= until):
        span = f"promoted at {head.promoted_at.isoformat()}" + (f", served for {claim.serve_for_s} s" if until else "")
        raise Refused(
            f"promotion {head.sequence} of {place_of(head.target)}",
            span,
            f"one that counts at {now.isoformat()}",
            "Evaluate the model again, decide and promote.",
        )
    return until


def _require_wanted(head: Promotion, model: str, decision: str) -> None:
    for what, got, need in (("model", head.model, model), ("decision", head.decision, decision)):
        if need and got != need:
            fix = "The deployment names another than the one promoted last: deploy it with the annotations of this one."
            raise Refused(f"{what} of {place_of(head.target)}", got[:12], need[:12], fix)


@contextmanager
def _private_copy(head: Promotion, workspace: Workspace, out: Path) -> Iterator[Path]:
    """The files of the promoted model in a folder of mode 0700 beside ``out``, hashed there; gone with the block."""
    ledger, prefix = workspace.ledger, f"models/{head.model}/"
    with temporary_folder(out) as folder:
        try:
            names = {name.removeprefix(prefix) for name in ledger.names(prefix)}
            if names != FILES:
                raise Refused(f"ledger {prefix}", f"the files {sorted(names)}"[:400], f"exactly {sorted(FILES)}")
            for name in sorted(names):
                ledger.copy(f"{prefix}{name}", folder / name)
            got = model_digest(folder)
            if got != head.model:
                raise Refused(f"ledger {prefix}", f"digest {got[:12]}", f"{head.model[:12]}, which was promoted")
            read_spec(folder)
        except UnfitInput as error:
            raise Refused(error.where, error.got, error.need, error.fix) from error
        yield folder


def _replay(folder: Path) -> None:
    try:
        from assay.models.folder import load_model
    except ImportError as error:
        raise AssayError("--replay", str(error), "torch", "Leave it out where the server itself replays.") from error
    try:
        load_model(folder)
    except UnfitInput as error:
        raise Refused(error.where, error.got, error.need, error.fix) from error


def _hand_over(copy: Path, out: Path) -> None:
    """The copy takes the name ``out``; a model that was there goes aside first, and then away."""
    for path in copy.iterdir():
        path.chmod(0o400)
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    with temporary_folder(out) as aside:
        if out.is_dir() and any(out.iterdir()):
            os.replace(out, aside)
        os.replace(copy, out)
    fsync_folder(out.parent)
