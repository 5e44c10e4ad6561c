"""What NVIDIA Triton Inference Server reads: a model's configuration, its program, its folder.

:mod:`export.triton` puts them together.
"""
