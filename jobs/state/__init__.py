"""A run on disk as jobs see it: made, gone on with, gone back in, read and planned."""
