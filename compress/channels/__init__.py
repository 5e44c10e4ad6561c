"""Channels: which of a network's can be removed, and how.

Read first: :mod:`compress.channels.labels`, then ``tracing`` and ``rules`` (how labels are found),
``groups`` (what can go), ``cutting`` (how it goes).
"""
