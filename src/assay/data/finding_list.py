"""Findings by the million: gathered as columns, sorted, tallied and written as a list of `Finding` would be.

A finding takes about 50 bytes here, ten times less than as an object.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assay import canonical
from assay.data.findings import REMOVING, SCHEMA, Action, Finding
from assay.data.layout import batch_codes
from assay.errors import UnfitInput

GROUP_ROWS = 2**20  # of a Parquet row group: that of a file written at once
COLUMNS = pa.schema([("record_id", pa.string()), ("kind", pa.int32()), ("score", pa.float64())])
Kind = tuple[str, str, Action]

__all__ = ["FindingList", "Marked"]


class Marked:
    """Records by id, to be found again in any table that holds some of them."""

    def __init__(self, ids: pa.Array) -> None:
        """Take in ids, each once, as text.

        Raises:
            UnfitInput: a text that is no record id.
        """
        self._rows: dict[str, npt.NDArray[np.int64]] = {}
        if not len(ids):
            return
        parts = pc.extract_regex(ids, r"^(?P<batch>[^:]+):(?P<row>[0-9]{1,18})$")
        if parts.null_count:
            strange = ids.filter(parts.is_null())[0].as_py()
            raise UnfitInput("record id", repr(strange), "<source>/<batch>:<row>, such as clinic/2024-03:17")
        batch = parts.field("batch").dictionary_encode()
        row, code = pc.cast(parts.field("row"), pa.int64()).to_numpy(), batch.indices.to_numpy()
        for at, name in enumerate(batch.dictionary.to_pylist()):
            self._rows[name] = np.sort(row[code == at])

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    def of(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Which records of a table with ``batch`` and ``row`` are among them, (N,)."""
        found = np.zeros(table.num_rows, np.bool_)
        if self._rows and table.num_rows:
            names, codes = batch_codes(table)
            row = table["row"].to_numpy()
            for at, name in enumerate(names):
                if name in self._rows:
                    mine = codes == at
                    found[mine] = np.isin(row[mine], self._rows[name])
        return found


class FindingList:
    """Findings in any order, each kept once."""

    def __init__(self, findings: Iterable[Finding] = ()) -> None:
        """Begin with some, or none."""
        self._kinds: dict[Kind, int] = {}
        self._parts: list[pa.Table] = []
        self._sorted: pa.Table | None = None
        self.extend(findings)

    def add(
        self,
        ids: Sequence[str] | pa.Array,
        detector: str,
        score: float | npt.NDArray[np.float64],
        reason: str,
        action: Action,
    ) -> None:
        """One finding about each record.

        Args:
            ids: of the records, N of them.
            detector: of all findings.
            score: of all, or of each, (N,).
            reason: of all.
            action: of all.
        """
        if len(ids):
            kind = self._kinds.setdefault((detector, reason, action), len(self._kinds))
            scores = np.broadcast_to(np.asarray(score, dtype=np.float64), (len(ids),))
            self._append(pa.array(ids, pa.string()), np.full(len(ids), kind, np.int32), scores)

    def extend(self, findings: Iterable[Finding]) -> None:
        """Findings as objects."""
        listed = list(findings)
        if listed:
            kinds = [self._kinds.setdefault((it.detector, it.reason, it.action), len(self._kinds)) for it in listed]
            ids = pa.array([it.record_id for it in listed], pa.string())
            self._append(ids, np.array(kinds, np.int32), np.array([it.score for it in listed], np.float64))

    def __len__(self) -> int:
        return int(self._table().num_rows)

    def digest(self) -> str:
        """SHA-256 of `bytes`, or an empty text when there are none: what a history names."""
        return canonical.sha256(self.bytes()) if len(self) else ""

    def bytes(self) -> bytes:
        """Parquet bytes, sorted; those that `findings_bytes` gives for the same findings."""
        sink, table = io.BytesIO(), self._table()
        with pq.ParquetWriter(sink, SCHEMA, compression="zstd") as writer:
            for first in range(0, max(1, table.num_rows), GROUP_ROWS):
                writer.write_table(self._spelled(table.slice(first, GROUP_ROWS)), row_group_size=GROUP_ROWS)
        return sink.getvalue()

    def counts(self, *actions: Action) -> Counter[str]:
        """How many findings call for one of the actions, by reason."""
        codes, totals = self._table()["kind"].to_numpy(), Counter[str]()
        for (_, reason, action), code in self._kinds.items():
            if action in actions:
                totals[reason] += int((codes == code).sum())
        return Counter({reason: count for reason, count in totals.items() if count})

    def about(self, *actions: Action) -> pa.Array:
        """Ids of the records with a finding that calls for one of the actions, each once, sorted."""
        table = self._table()
        wanted = [code for kind, code in self._kinds.items() if kind[2] in actions]
        ids = table["record_id"].filter(pc.is_in(table["kind"], pa.array(wanted, pa.int32())))
        return pc.unique(ids)

    def marked(self, *actions: Action) -> Marked:
        """The records with a finding that calls for one of the actions."""
        return Marked(self.about(*actions))

    def tally(self) -> dict[str, dict[str, int]]:
        """How many records were removed, by source and reason; a record counts once, under its worst finding."""
        table = self._table()
        wanted = [code for kind, code in self._kinds.items() if kind[2] in REMOVING]
        table = table.filter(pc.is_in(table["kind"], pa.array(wanted, pa.int32())))
        if not table.num_rows:
            return {}
        ids = table["record_id"].combine_chunks().dictionary_encode()
        record = ids.indices.to_numpy()
        order = np.lexsort((np.arange(len(record)), -table["score"].to_numpy(), record))
        worst = order[np.append(True, record[order][1:] != record[order][:-1])]
        sources = pc.list_element(pc.split_pattern(table["record_id"].take(pa.array(worst)), "/", max_splits=1), 0)
        reasons = [reason for _, reason, _ in self._kinds]
        pairs = pa.table({"source": sources, "kind": table["kind"].take(pa.array(worst))})
        result: dict[str, dict[str, int]] = {}
        for row in pairs.group_by(["source", "kind"]).aggregate([([], "count_all")]).to_pylist():
            by_reason = result.setdefault(row["source"], {})
            by_reason[reasons[row["kind"]]] = by_reason.get(reasons[row["kind"]], 0) + row["count_all"]
        return {source: dict(sorted(by_reason.items())) for source, by_reason in sorted(result.items())}

    def objects(self) -> list[Finding]:
        """All as objects, sorted."""
        return [Finding(**row) for row in self._spelled(self._table()).to_pylist()]

    def _append(self, ids: pa.Array, kinds: npt.NDArray[np.int32], scores: npt.NDArray[np.float64]) -> None:
        self._parts.append(pa.table({"record_id": ids, "kind": kinds, "score": scores}))
        self._sorted = None

    def _table(self) -> pa.Table:
        """All of them once, in the order of `Finding`."""
        if self._sorted is None:
            empty = pa.table(
                {
                    "record_id": pa.array([], pa.string()),
                    "kind": pa.array([], pa.int32()),
                    "score": pa.array([], pa.float64()),
                }
            )
            self._sorted = self._unique(pa.concat_tables([empty, *self._parts]).combine_chunks())
            self._parts = [self._sorted]
        return self._sorted

    def _unique(self, table: pa.Table) -> pa.Table:
        """Sorted by id, detector, score, reason and action, without what is there twice."""
        if not table.num_rows:
            return table
        kinds = list(self._kinds)
        detectors = sorted({kind[0] for kind in kinds})
        rests = sorted({kind[1:] for kind in kinds})
        code = table["kind"].to_numpy()
        keyed = table.append_column("detector", pa.array(np.array([detectors.index(it[0]) for it in kinds])[code]))
        keyed = keyed.append_column("rest", pa.array(np.array([rests.index(it[1:]) for it in kinds])[code]))
        by = [(name, "ascending") for name in ("record_id", "detector", "score", "rest")]
        table = table.take(pc.sort_indices(keyed, sort_keys=by)).combine_chunks()
        code, score = table["kind"].to_numpy(), table["score"].to_numpy()
        same = np.zeros(len(code), np.bool_)
        same[1:] = (code[1:] == code[:-1]) & (score[1:] == score[:-1])
        ids = table["record_id"]
        same[1:] &= pc.equal(ids.slice(1), ids.slice(0, len(ids) - 1)).to_numpy()
        return table.filter(pa.array(~same)) if same.any() else table

    def _spelled(self, table: pa.Table) -> pa.Table:
        """A slice in the columns of a file of findings."""
        kinds, code = list(self._kinds), pa.array(table["kind"].to_numpy())
        words = [pa.array([kind[at] for kind in kinds], pa.string()).take(code) for at in range(3)]
        columns = [table["record_id"], words[0], table["score"], words[1], words[2]]
        return pa.table(columns, schema=SCHEMA)
