"""How the model that comes with the package was made. Needs the extra `recipes`."""
