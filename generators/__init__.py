"""Reference generators: their networks, their training, their shipped weights."""
