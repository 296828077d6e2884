"""What answers searches: exact, routed, FAISS, GPU. Imports `core` and `kernels`."""
