"""Photos to faces, and faces from the store: detectors, shards, ingest, reading."""
