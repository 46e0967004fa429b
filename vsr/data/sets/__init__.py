"""Data sets, registered under the names that options files use."""
