"""Strengths compared on validation data."""

from keras_softconv.path.path import regularization_path
from keras_softconv.path.results import RegularizationPath

__all__ = ["RegularizationPath", "regularization_path"]
