"""From rows of embeddings to triplets, suspects and counts. Imports `engines` and what is below."""
