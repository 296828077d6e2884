"""What the network is: backbones, batch normalisation, and faces to embeddings."""
