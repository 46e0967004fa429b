"""Modulated deformable convolution: the operator (op), its kernels, and the layer that predicts offsets (pack)."""
