"""Aspects: what is measured of a model beside its robustness, ``aspect(scene) -> Found``, one file each. Needs torch.

An aspect is a frozen dataclass whose fields are its settings. It looks at a `Scene` (the model, the records, named sets
of other records) and answers with estimates, checks that can only take trust away, what to record of how it was
measured, and its section of the page. It draws from generators seeded by the evaluation's seed and its own name alone.
"""

HELPERS = ("scene",)
