"""Who else is affected? Walks the ledger from anything a run left behind, in both directions.

    trace("source:vendor-c", ledger)

Downstream: source, batch, record -> datasets that hold it -> models trained on them -> evidence -> decisions ->
promotions -> model versions -> aliases. Upstream the same way back. Every edge names the ledger document that proves
it; a document whose digest or signature does not hold proves nothing and is listed under ``problems``.
"""

from assay.trace.walk import trace

__all__ = ["trace"]
