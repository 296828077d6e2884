"""The closing tables of verbs, from what is on disk."""
