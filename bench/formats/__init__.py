"""A measurement as files for other programs, a format each."""
