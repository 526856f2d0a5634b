"""Training on the user's recordings: data, augmentation, optimisers, and pretraining with `Trainer`."""
