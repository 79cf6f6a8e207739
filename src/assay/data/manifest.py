"""The manifest of a dataset: what the records are (content) and where they came from (history).

``content_digest`` names the records alone, ``digest`` the manifest with its history. Two datasets with equal content
digests hold the same records with the same values in the same schema, however they were made.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

from assay import canonical
from assay.data.merkle import BLOCK_ROWS
from assay.errors import UnfitInput

SCHEMA = "assay.manifest"

__all__ = ["BatchShare", "Column", "Content", "History", "Manifest"]


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type by name, and the shape of one cell when it is a tensor."""

    name: str
    type: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class Content:
    """What the records are.

    Fields:
        columns: in order; ``batch`` and ``row`` first, then features, ``label``, and maybe ``weight``.
        classes: names of the classes; label ``k`` is ``classes[k]``. None where the label is a quantity.
        records: how many.
        merkle_root: hexadecimal root over blocks of ``block_rows`` rows, records in canonical order.
    """

    columns: tuple[Column, ...]
    classes: tuple[str, ...]
    records: int
    merkle_root: str
    block_rows: int = BLOCK_ROWS

    @property
    def regression(self) -> bool:
        """The label is a quantity."""
        return not self.classes and any(column.name == "label" and column.type == "double" for column in self.columns)

    def require_classes(self, who: str) -> None:
        """Refuse records whose label is a quantity, for what asks for classes.

        Raises:
            UnfitInput: names who asks.
        """
        if self.regression:
            raise UnfitInput(f"{who}: label", "a quantity", "classes", "This works on records of classes alone.")


@dataclass(frozen=True)
class BatchShare:
    """What one batch gives to a dataset.

    Fields:
        source, batch: its names.
        sha256: of the batch's file as it was delivered.
        records: how many of its records are in this dataset.
        trust: of its source, ``untrusted``, ``standard`` or ``trusted``.
        uploader: id of the key that signed the batch, or an empty string.
    """

    source: str
    batch: str
    sha256: str
    records: int
    trust: str = "standard"
    uploader: str = ""


@dataclass(frozen=True)
class History:
    """Where the records came from.

    Fields:
        step: the step that wrote this dataset, such as ``ingest`` or ``sanitize``.
        role: which of the step's outputs it is: ``kept``, ``quarantine``, ``calibration``, ``holdout``.
        sources: the batches in it.
        parents: manifest digests of the datasets it was made from.
        parameters: settings of the step.
        code: digest of assay's code; image: the container image, or an empty string outside one.
        removed: per source and reason, how many records of the parent are not in here.
        findings: SHA-256 of the list of findings in the ledger that says why, or an empty string.
        record_list: Merkle root over batch and row of every record, which binds the ledger's list of them, however that
            is encoded; an empty string in manifests of release 0.1.
    """

    step: str
    role: str
    sources: tuple[BatchShare, ...]
    parents: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    image: str = ""
    removed: dict[str, dict[str, int]] = field(default_factory=dict)
    findings: str = ""
    record_list: str = ""


@dataclass(frozen=True)
class Manifest:
    """Content and history of one dataset."""

    content: Content
    history: History

    @cached_property
    def content_digest(self) -> str:
        """SHA-256 that names the records, whatever their history."""
        return canonical.digest(asdict(self.content))

    @cached_property
    def digest(self) -> str:
        """SHA-256 that names this manifest: the identity of the dataset everywhere."""
        return canonical.digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Plain data for canonical JSON."""
        history = asdict(self.history)
        if not self.history.record_list:  # as release 0.1 wrote it, so that its digest stays
            del history["record_list"]
        return {"schema": f"{SCHEMA}/v1", "content": asdict(self.content), "history": history}

    @classmethod
    def from_json(cls, document: Any, where: str = "manifest") -> Manifest:
        """The reverse of `to_json`; anything missing, unknown or of another shape is an error."""
        body = canonical.require_schema(document, SCHEMA, where)
        try:
            content, history = dict(body["content"]), dict(body["history"])
            content["columns"] = tuple(
                Column(**column | {"shape": tuple(column.get("shape", ()))}) for column in content["columns"]
            )
            content["classes"] = tuple(content["classes"])
            history["sources"] = tuple(BatchShare(**share) for share in history["sources"])
            history["parents"] = tuple(history["parents"])
            made = cls(Content(**content), History(**history))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UnfitInput(where, f"{type(error).__name__}: {error}", f"an {SCHEMA}/v1 document") from error
        if any(not isinstance(getattr(made.history, f.name), str) for f in fields(History) if f.type == "str"):
            raise UnfitInput(where, "a history field that is no text", f"an {SCHEMA}/v1 document")
        return made
