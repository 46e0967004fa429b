"""Convolution of 3×3 taps on CPUs: schema and rules (op), and the layer."""
