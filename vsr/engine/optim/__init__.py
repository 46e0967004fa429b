"""Optimisers and learning-rate schedules, registered under the names that options files use."""
