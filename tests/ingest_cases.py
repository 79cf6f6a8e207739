"""What readers give, put together."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from assay.ingest.rows import Rows


def joined(chunks: Iterable[Rows]) -> Rows:
    """All rows of a batch in one table."""
    parts = list(chunks)
    table = pa.concat_tables([part.table for part in parts]).combine_chunks()
    return Rows(table, tuple(refusal for part in parts for refusal in part.refused))
