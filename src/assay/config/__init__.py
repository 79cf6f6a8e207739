"""``assay.yaml``: strict, one section a step, canonicalised to JSON whose SHA-256 is its digest. Free of torch."""

from assay.config.base import Section, parse
from assay.config.root import Config

__all__ = ["Config", "Section", "parse"]
