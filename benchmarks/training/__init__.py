"""The training loop beside mining, and what ways to choose triplets are worth."""
