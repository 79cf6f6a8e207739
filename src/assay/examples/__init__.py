"""Built-in examples, one file each: data of three vendors and one trusted source, and the ``assay.yaml`` to run them.

Everything an example writes follows from its settings alone: same settings, same bytes.
"""

HELPERS = ("batches", "place", "unfiltered")
