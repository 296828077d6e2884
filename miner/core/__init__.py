"""What every engine shares: the distance, hashes, searches and threads, memory, time.

Imports `kernels`.
"""
