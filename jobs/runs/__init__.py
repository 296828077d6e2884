"""Run files that ship with FaceQuarry; each is parsed by a test."""
