"""The GPU engine and kernels, timed where there is a GPU: `python -m benchmarks.gpu`."""
