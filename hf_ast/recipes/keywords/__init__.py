"""The embedded keyword model: synthetic speech, clips, training script."""
