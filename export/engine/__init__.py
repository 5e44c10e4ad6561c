"""TensorRT engines: what shapes they take, how they are built, and what was really built.

Begin with :mod:`export.engine.building`.
"""
