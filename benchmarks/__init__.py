"""Figures that README and notes quote, each made by a command: ``python -m benchmarks.X``."""
