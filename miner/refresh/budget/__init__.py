"""How much a refresh may embed, whose turn it is, and who looks alike."""
