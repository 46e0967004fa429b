"""Backward warping by a flow: schema and rules (op) and kernels."""
