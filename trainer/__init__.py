"""Embed, learn, publish checkpoints, evaluate: the consumer of mined triplets."""
