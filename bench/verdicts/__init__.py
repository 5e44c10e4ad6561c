"""What may be concluded from figures: changes, thresholds, and what to distrust."""
