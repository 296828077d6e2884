"""One module a verb: its flags as a dataclass, and `run(flags)` that returns the exit code."""
