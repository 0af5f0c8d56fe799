"""The systems: classifiers and generators."""
