"""Commands beside training and testing."""
