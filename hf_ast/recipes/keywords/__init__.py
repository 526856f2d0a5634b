"""The recipe of the embedded keyword model: synthetic speech, clips and training."""
