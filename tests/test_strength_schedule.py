"""Strengths that move with epochs and steps."""

import keras
import numpy as np
import pytest
from backends import BACKEND
from cheap_training import rewinding
from soft_models import soft_model

from keras_softconv import SoftConv2D
from keras_softconv.callbacks import StrengthSchedule
from keras_softconv.callbacks.chosen_layers import chosen_layers
from keras_softconv.diagnostics import soft_layers


class Witness(keras.callbacks.Callback):
    """Keeps the strengths that each batch was trained with."""

    def __init__(self, name="tie_strength"):
        super().__init__()
        self.name, self.seen = name, []

    def on_train_batch_end(self, batch, logs=None):
        layers = [one for one in self.model.layers if isinstance(one, SoftConv2D)]
        self.seen.append([float(getattr(layer, self.name)) for layer in layers])


@pytest.fixture(scope="module")
def two_layers():
    """A function that always returns the same model, as if it were new."""
    layers = [SoftConv2D(2, 3, padding="same", name=name) for name in ("first", "second")]
    model = keras.Sequential([keras.Input((5, 4, 2)), *layers], name="two")
    model.compile("sgd", "mse")
    return rewinding(model)


def fit(model, images, callbacks, **arguments):
    x, y = images
    arguments = {"epochs": 3, "batch_size": 4, "verbose": 0, **arguments}
    return model.fit(x, y[..., :2], callbacks=callbacks, **arguments)


def test_a_function_of_the_epoch_sets_all_layers(images, two_layers):
    witness = Witness()
    fit(two_layers(), images, [StrengthSchedule(lambda epoch: 2.0**epoch), witness])
    assert witness.seen == [[1, 1], [1, 1], [2, 2], [2, 2], [4, 4], [4, 4]]


def test_epochs_go_on_where_training_was_resumed(images, two_layers):
    witness = Witness()
    schedule = StrengthSchedule(lambda epoch: float(epoch))
    fit(two_layers(), images, [schedule, witness], initial_epoch=2)
    assert witness.seen == [[2, 2], [2, 2]]


def test_a_keras_schedule_by_step_goes_on_in_a_second_fit(images, two_layers):
    model, witness = two_layers(), Witness("off_template_strength")
    rise = keras.optimizers.schedules.PolynomialDecay(0.0, 8, end_learning_rate=4.0)
    schedule = StrengthSchedule(off_template_strength=rise, update_freq="batch")
    for _ in range(2):
        fit(model, images, [schedule, witness], epochs=2)
    np.testing.assert_allclose(witness.seen, [[step / 2] * 2 for step in range(8)])


def test_several_schedules_move_each_layer_on_its_own(images, two_layers):
    witness = Witness()
    schedules = [
        StrengthSchedule(lambda epoch: 3.0 + epoch, layers="first"),
        StrengthSchedule(lambda epoch: 7.0, layers=["two/second"]),
    ]
    fit(two_layers(), images, [*schedules, witness], epochs=2, batch_size=8)
    assert witness.seen == [[3, 7], [4, 7]]


def test_the_loss_follows_the_strength_without_retracing(images):
    traces = []

    class Traced(keras.Regularizer):
        def __call__(self, weights):
            traces.append(1)
            return keras.ops.sum(keras.ops.square(weights))

        def get_config(self):
            return {}

    layer = SoftConv2D(
        2,
        3,
        padding="same",
        tie_regularizer=Traced(),
        off_template_regularizer=None,
        deviation_initializer="ones",
        use_bias=False,
    )
    model = keras.Sequential([keras.Input((5, 4, 2)), layer])
    model.compile(keras.optimizers.SGD(0.0), "mse", metrics=["mse"])
    counts = []
    count = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: counts.append(len(traces))
    )
    schedule = StrengthSchedule(lambda epoch: [1.0, 0.0, 5.0][epoch])
    history = fit(model, images, [schedule, count], batch_size=8).history
    penalties = np.subtract(history["loss"], history["mse"])
    template = layer.template_mask().sum()
    np.testing.assert_allclose(penalties, [template, 0, 5 * template], rtol=1e-5, atol=1e-4)
    if BACKEND != "torch":  # which is not compiled here
        assert counts[0] == counts[-1] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs a schedule for `tie_strength`"),
        ({"tie_strength": 3.0}, "a function of the epoch or step.*For a constant"),
        ({"tie_strength": abs, "update_freq": 3}, "'epoch' or 'batch'. Received: .*3"),
        ({"tie_strength": abs, "layers": []}, "a name or path of a layer"),
        ({"tie_strength": abs, "layers": [1]}, "a name or path of a layer"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        StrengthSchedule(**arguments)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("update_freq", "time"), [("epoch", "epoch 0"), ("batch", "step 0")]
)
def test_bad_strengths_are_refused_and_not_assigned(
    update_freq, time, value, images, two_layers
):
    model = two_layers()
    schedule = StrengthSchedule(lambda time: value, update_freq=update_freq)
    message = f"`tie_strength` must return a finite number.*{value} at {time}"
    with pytest.raises(ValueError, match=message):
        fit(model, images, [schedule])
    assert float(model.layers[0].tie_strength) == 1


def test_layers_that_do_not_exist(images, two_layers):
    message = "found no SoftConv layer 'third'.*'two/first', 'two/second'.*Correct"
    with pytest.raises(ValueError, match=message):
        fit(two_layers(), images, [StrengthSchedule(abs, layers="third")])
    dense = keras.Sequential([keras.Input((5, 4, 2)), keras.layers.Dense(2)])
    dense.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"none.*Add a SoftConv2D"):
        fit(dense, images, [StrengthSchedule(abs)])
    unbuilt = keras.Sequential([SoftConv2D(2, 3, padding="same")])
    with pytest.raises(ValueError, match=r"needs built layers.*keras\.Input"):
        chosen_layers(unbuilt, None, StrengthSchedule(abs))


def test_nested_layers_are_found_by_name(images):
    model = soft_model()
    model.compile("sgd", "mse")
    x, y = images
    model.fit(x, y, verbose=0, callbacks=[StrengthSchedule(lambda epoch: 9.0)])
    assert {float(one.tie_strength) for one in soft_layers(model).values()} == {9.0}
