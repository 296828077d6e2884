"""Photos to a published snapshot of faces, by Ray actors.

Imports all folders of `datasets` but `synthetic`.
"""
