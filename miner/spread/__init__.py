"""One exact search shared out over tasks and actors, with the same answers. Imports `engines`."""
