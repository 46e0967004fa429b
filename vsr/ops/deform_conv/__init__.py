"""Modulated deformable convolution: schema and rules (op), kernels, and the layer with its own offsets (pack)."""
