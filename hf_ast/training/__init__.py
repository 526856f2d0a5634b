"""Recipes and their parts: augmentation, synthetic speech, training on `Trainer`."""
