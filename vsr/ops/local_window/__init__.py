"""Reads of the R × R window around every position: schema and rules (op) and kernels."""
