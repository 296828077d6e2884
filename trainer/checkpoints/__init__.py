"""Checkpoints: saved, found, kept, started from. Imports `network` and `batch`."""
