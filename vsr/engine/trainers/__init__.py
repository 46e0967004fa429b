"""The trainers that options files name."""
