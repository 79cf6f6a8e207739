"""Pipelines for Kubeflow: compiled to its YAML, uploaded as versions, run, scheduled, listed. kfp loads when called."""
