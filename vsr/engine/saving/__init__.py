"""Training states and weights: written, found again, resumed from."""
