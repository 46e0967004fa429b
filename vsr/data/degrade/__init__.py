"""Degradations that make LQ frames of GT frames."""
