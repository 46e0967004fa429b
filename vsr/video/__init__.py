"""Upscaling of films: what is read, the parts that are restored, and the file they become."""
