"""What the tables of papers are measured with."""

from scratchnn.metrics.classification import accuracy, confusion_matrix, error

__all__ = ["accuracy", "confusion_matrix", "error"]
