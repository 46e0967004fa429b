"""The training engine: trainers, their loop, and the parts of both."""
