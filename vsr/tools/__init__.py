"""The commands of ``vsr`` that are no entry points of a training: one module each, with ``main``."""
