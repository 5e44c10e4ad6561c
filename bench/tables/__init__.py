"""What is said of a measurement: rows, sentences, commands. Worked out once, dressed elsewhere."""
