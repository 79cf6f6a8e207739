"""A given model as the encoder of records."""

from __future__ import annotations

from assay.config.base import Section

__all__ = ["EncoderConfig"]


class EncoderConfig(Section):
    """A model whose layer represents records.

    Fields:
        model: its folder, local or ``s3://bucket/prefix/``; empty for none.
        layer: name of a module of its network, whose output is taken; empty for what the last linear layer reads.
    """

    model: str = ""
    layer: str = ""
