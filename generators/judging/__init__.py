"""How good the reference generators are, measured on what they were not trained on."""
