"""Degradations that make LQ frames of GT frames, see :mod:`vsr.data.degrade.apply`; chains of them, see ``chain``."""
