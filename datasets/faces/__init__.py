"""Faces in Parquet: shards, snapshots, and random access by face_index. Imports `disk`."""
