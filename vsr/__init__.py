"""Video super-resolution, trained and tested from YAML files."""

__version__ = "0.1.0"
