"""The triplet queue: which rows a step gets, for ever. Imports nothing of the mining itself."""
