"""Exact rewrites of layers; those of graphs are in :mod:`genslim.graph_rewrites`."""
