"""Other people's offline miners on the same faces; each in a virtual environment of its own."""
