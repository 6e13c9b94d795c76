"""Proximal steps of a kernel: weights on and off the template do not mix."""

import numpy as np
import pytest
from backends import at_once
from conv_cases import CASES
from covering import covering
from keras import ops
from keras.ops import convert_to_numpy as to_numpy
from keras.regularizers import L1
from soft_models import dense_form, random_layer

from keras_softconv.regularizers import DistanceWeighted, GroupLasso, PairwiseL1

PENALTIES = {
    "lasso": L1(0.3),
    "groups": GroupLasso(0.3),
    "groups of positions": GroupLasso(0.3, per="position"),
    "pairs": PairwiseL1(0.1),
}
OFF_TEMPLATE = PENALTIES | {
    "distant groups": DistanceWeighted(GroupLasso(0.3), power=1.5),
}


@pytest.mark.parametrize(
    ("off", "tie", "halo"), covering(list(OFF_TEMPLATE), list(PENALTIES), [None, 1])
)
def test_neither_part_depends_on_the_weights_of_the_other(halo, tie, off, rng):
    """The weights on the template are changed, and then those off it."""
    layer = random_layer(
        CASES["same_strided"], rng, halo=halo,
        tie_regularizer=PENALTIES[tie], off_template_regularizer=OFF_TEMPLATE[off],
    )  # fmt: skip
    shrinkage, sharing = layer.deviations.shrinkage, layer.weight_sharing
    is_template = layer.template_mask()
    # Torch keeps the strides of an array, and the order of its sums depends on them.
    stored = np.ascontiguousarray(to_numpy(layer.deviations))
    template = np.zeros_like(stored)
    template[to_numpy(sharing.off_template(np.ones_like(stored))) == 0] = 1

    def parts(function, weights):
        def after_reading(*tensors):
            layer.penalties()  # which read the strengths that an update takes
            return function(*tensors)

        tensors = map(ops.convert_to_tensor, weights)
        found = dense_form(sharing, at_once(after_reading)(*tensors))
        return found[is_template], found[~is_template]

    new = rng.normal(size=stored.shape).astype("float32")
    sizes = np.full(stored.shape, 0.5, "float32")
    random_sizes = rng.random(stored.shape).astype("float32")
    for function, weights, others in (
        (shrinkage.step, (stored, sizes), (new, sizes)),
        (shrinkage.gradient, (stored,), (new,)),
        (shrinkage.lawful_steps, (random_sizes,), (0.1 * random_sizes,)),
    ):
        ties, off_template = parts(function, weights)
        pairs = list(zip(weights, others, strict=True))
        new_ties = [np.where(template == 1, b, a) for a, b in pairs]
        new_others = [np.where(template == 1, a, b) for a, b in pairs]
        np.testing.assert_array_equal(parts(function, new_ties)[1], off_template)
        np.testing.assert_array_equal(parts(function, new_others)[0], ties)
        assert (parts(function, new_ties)[0] != ties).any()
        assert (parts(function, new_others)[1] != off_template).any()
