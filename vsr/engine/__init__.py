"""The training loop, its variants, and what they are built from."""
