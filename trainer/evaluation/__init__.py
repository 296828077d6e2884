"""How well a checkpoint verifies people it was not trained on: pairs, figures, pictures."""
