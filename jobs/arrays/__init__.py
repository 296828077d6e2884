"""`facequarry mine --embeddings`: arrays and labels from files, mined into a folder."""
