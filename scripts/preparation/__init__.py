"""What the preparation scripts in scripts/ share."""
