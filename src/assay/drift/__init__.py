"""Drift statistics, one file each: a p-value and a distance for one feature of two samples. Free of torch.

A member is called with the values of the reference and of the current window, the level at which its p-value will be
compared, and a generator; it says for which kinds of feature it `speaks`.
"""

HELPERS: tuple[str, ...] = ("decide", "feature", "page", "tables")
