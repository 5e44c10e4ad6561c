"""The one training loop, and what it minimises: one objective a file."""
