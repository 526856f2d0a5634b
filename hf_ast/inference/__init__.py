"""From recordings to labels and embeddings."""
