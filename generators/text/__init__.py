"""Text to image by a language model: prompts, decoding, and decoding what was compressed."""
