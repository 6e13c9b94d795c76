"""What the training data say about the strengths of ridges: empirical Bayes."""

from keras_softconv.evidence.curvature import Curvature, Measurement, Part
from keras_softconv.evidence.included import included_priors
from keras_softconv.evidence.likelihoods import Likelihood, likelihood_of
from keras_softconv.evidence.priors import Prior
from keras_softconv.evidence.soft_priors import check_ridges, priors_of
from keras_softconv.evidence.strength_learner import StrengthLearner
from keras_softconv.evidence.training_data import TrainingData
from keras_softconv.evidence.updates import Update, updates_of

__all__ = [
    "Curvature",
    "Likelihood",
    "Measurement",
    "Part",
    "Prior",
    "StrengthLearner",
    "TrainingData",
    "Update",
    "check_ridges",
    "included_priors",
    "likelihood_of",
    "priors_of",
    "updates_of",
]
