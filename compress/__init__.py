"""Steps that make a generator smaller or faster: generator in, generator out."""
