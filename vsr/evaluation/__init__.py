"""Measuring networks: frames restored or predicted, their scores, tables and pictures."""
