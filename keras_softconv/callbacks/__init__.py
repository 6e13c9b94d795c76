"""Callbacks that watch the structure in training, and those that move the strengths."""

from keras_softconv.callbacks.adaptive_strengths import AdaptiveStrengths
from keras_softconv.callbacks.strength_schedule import StrengthSchedule
from keras_softconv.callbacks.structure_monitor import StructureMonitor

__all__ = ["AdaptiveStrengths", "StrengthSchedule", "StructureMonitor"]
