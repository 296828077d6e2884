"""What the page shows, read from a run directory: arrays, pages of triplets, headlines."""
