"""The files that ``assay init`` writes: data, in a package so that every build tool takes them along."""
