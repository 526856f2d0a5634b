"""Training on the user's recordings: data, augmentation, optimisers, fine-tuning and pretraining with `Trainer`."""
