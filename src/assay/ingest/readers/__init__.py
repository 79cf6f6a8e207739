"""Readers of batches, one file format each, chosen by the ending of the file's name.

A member declares ``endings`` and reads a `Delivery` into `Rows`, strictly: what it cannot hold as it stands is an
error or is kept raw, and nothing is ever changed in silence. Nothing that came from outside is unpickled.
"""
