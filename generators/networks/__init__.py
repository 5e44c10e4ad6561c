"""The reference networks: one readable file each, with the shapes in comments."""
