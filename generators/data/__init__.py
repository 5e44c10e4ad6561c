"""What the reference generators are trained on. Nothing is downloaded."""
