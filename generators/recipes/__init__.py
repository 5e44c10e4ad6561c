"""How each reference network is trained: networks put together with an objective and a judge.

A recipe takes the data held apart and a seed. What can be set beside (``--option loss=hinge``) are
its keyword arguments, with the values that the shipped weights were made with.
"""
