"""INT8 as a graph with QuantizeLinear and DequantizeLinear pairs.

A library's quantizer says where the pairs go (:mod:`.placement`). What is between them is ours to
change (:mod:`.pairs`): ranges are chosen by measurement (:mod:`.ranges`), channels are made alike
(:mod:`.equalization`), weights and ranges are trained (:mod:`.training`), and what costs too much
stays in floating point (:mod:`.mixing`). :mod:`.int8` puts the stages together.
"""
