"""Is it from who it says? Batches are read strictly, named by digest, and joined into one dataset. Free of torch."""
