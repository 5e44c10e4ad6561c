"""Inputs that shipped generators draw themselves: entry points in ``genslim.samplers``."""
