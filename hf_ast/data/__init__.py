"""Sound in, for everyone: recordings, the tables and folders that name them, their labels and splits."""
