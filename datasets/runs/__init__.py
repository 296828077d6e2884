"""What a run left on disk and what it says: its paths, its events, and what follows from them."""
