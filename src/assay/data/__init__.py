"""Records, datasets and the manifests that name them. Free of torch."""
