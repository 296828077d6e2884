"""The one pool of Ray actors, for ingest and for mining. Imports `disk`."""
