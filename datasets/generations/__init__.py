"""Mined generations on disk, and the lease that names a step's rows. Imports `disk` and `runs`."""
