"""What regularizers are made from, what they keep of it and what they refuse."""

import json

import numpy as np
import pytest
from independent_penalties import PENALTIES, Quartic
from keras import regularizers
from keras.regularizers import L1

from keras_softconv.regularizers import (
    DistanceWeighted,
    FamilyStrengths,
    FusedTies,
    GaussianMixture,
    GroupLasso,
    Huber,
    PairwiseL1,
    StudentT,
)

ALL = [regularizer for regularizer, _ in PENALTIES.values()] + [
    DistanceWeighted(L1(0.3), power=2),
    DistanceWeighted(GroupLasso(0.3, per="position")),
    DistanceWeighted(Quartic(0.3)),
]


@pytest.mark.parametrize("regularizer", ALL, ids=lambda r: type(r).__name__)
def test_configuration(regularizer):
    config = regularizer.get_config()
    copy = type(regularizer).from_config(config)
    assert copy.get_config() == config
    serialized = regularizers.serialize(regularizer)
    assert serialized["registered_name"] == f"keras_softconv>{type(regularizer).__name__}"
    copy = regularizers.deserialize(json.loads(json.dumps(serialized)))
    assert type(copy) is type(regularizer)
    assert copy.get_config() == config
    assert regularizers.get(serialized).get_config() == config
    assert type(regularizer).__name__ in repr(regularizer)
    assert str(regularizer) == repr(regularizer)


def test_defaults_are_those_of_the_documentation():
    mixture = {"factor": 1e-3, "components": 3, "spread": 0.3, "per_family": False,
               "minimum_variance": 1e-4}  # fmt: skip
    assert GaussianMixture().get_config() == mixture
    assert GroupLasso().get_config() == {"factor": 0.01, "per": "family"}
    assert PairwiseL1().get_config() == {"factor": 0.01}
    assert Huber().get_config() == {"factor": 0.01, "delta": 0.1}
    student_t = {"factor": 0.01, "scale": 0.1, "degrees_of_freedom": 3.0}
    assert StudentT().get_config() == student_t
    assert DistanceWeighted().get_config()["power"] == 1.0
    for regularizer, kind in (
        (DistanceWeighted(), L1),
        (FamilyStrengths(), regularizers.L2),
        (FusedTies(), regularizers.L2),
    ):
        assert type(regularizer.regularizer) is kind
        assert regularizer.regularizer.get_config() == kind().get_config()


def test_settings_are_kept():
    settings = {"factor": 0.5, "components": 4, "spread": 2.0, "per_family": True,
                "minimum_variance": 0.25}  # fmt: skip
    assert GaussianMixture(**settings).get_config() == settings
    assert GroupLasso(0.5, "position").get_config() == {"factor": 0.5, "per": "position"}
    assert Huber(1, 2).get_config() == {"factor": 1.0, "delta": 2.0}
    inner = DistanceWeighted("l1", 3).regularizer
    assert type(inner) is regularizers.L1
    assert type(FusedTies().regularizer) is regularizers.L2
    assert type(FamilyStrengths("l1l2").regularizer) is regularizers.L1L2


@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), True, "0.1", None])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *[(kind, "factor") for kind in (Huber, StudentT, GroupLasso, PairwiseL1)],
        (GaussianMixture, "factor"),
        (DistanceWeighted, "power"),
    ],
)
def test_strengths_are_finite_and_not_negative(kind, name, bad):
    message = rf"`{name}` of {kind.__name__} must be a finite number, 0 or more.*{name}="
    with pytest.raises(ValueError, match=message):
        kind(**{name: bad})


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), False, "1"])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Huber, "delta"),
        (StudentT, "scale"),
        (StudentT, "degrees_of_freedom"),
        (GaussianMixture, "components"),
        (GaussianMixture, "spread"),
        (GaussianMixture, "minimum_variance"),
    ],
)
def test_sizes_are_finite_and_positive(kind, name, bad):
    message = rf"`{name}` of {kind.__name__} must be a finite number above 0\. Received"
    with pytest.raises(ValueError, match=message):
        kind(**{name: bad})


def test_components_are_whole():
    with pytest.raises(ValueError, match=r"`components`.*whole number.*components=2\.5"):
        GaussianMixture(components=2.5)
    assert GaussianMixture(components=2.0).components == 2


def test_groups_are_families_or_positions():
    with pytest.raises(ValueError, match=r"`per`.*'family' or 'position'.*per='filter'"):
        GroupLasso(per="filter")


@pytest.mark.parametrize("kind", [GroupLasso, PairwiseL1, FusedTies, GaussianMixture,
                                  FamilyStrengths])  # fmt: skip
@pytest.mark.parametrize("weights", [1.0, [1.0, 2.0]], ids=["scalar", "vector"])
def test_ties_have_positions_and_families(kind, weights):
    message = rf"{kind.__name__} expects weights of shape `\(\*output_grid, families\)`"
    with pytest.raises(ValueError, match=message):
        kind()(np.array(weights, "float32"))


@pytest.mark.parametrize("kind", [DistanceWeighted, FusedTies])
@pytest.mark.parametrize("inner", [None, GaussianMixture(), FamilyStrengths()])
def test_what_is_applied_to_differences_has_no_weights(kind, inner):
    message = rf"`regularizer` of {kind.__name__} must be a regularizer without weights"
    with pytest.raises(ValueError, match=message):
        kind(inner)


@pytest.mark.parametrize("inner", [GroupLasso(), PairwiseL1(), FusedTies()])
def test_differences_have_a_term_each(inner):
    message = r"`regularizer` of FusedTies must add up one term for each difference"
    with pytest.raises(ValueError, match=message):
        FusedTies(inner)


@pytest.mark.parametrize("inner", [None, Huber(), Quartic()])
def test_only_lasso_and_ridge_have_a_strength_for_each_family(inner):
    with pytest.raises(ValueError, match="must be Keras's own L1, L2 or L1L2"):
        FamilyStrengths(inner)


def test_distances_are_known_to_layers_only():
    with pytest.raises(ValueError, match="DistanceWeighted needs to know how far"):
        DistanceWeighted()(np.ones((2, 3), "float32"))
