"""From recordings to labels."""
