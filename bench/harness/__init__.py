"""How figures are taken: every artifact, opened, timed in turn with the others, and looked at."""
