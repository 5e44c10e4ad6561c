"""What is drawn of a measurement: curves as SVG, pictures as files."""
