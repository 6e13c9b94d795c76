"""What callbacks cost from fit to fit, what is added to `logs`, and loops of one's own."""

import warnings

import keras
import numpy as np
import pytest
from backends import not_on
from cheap_training import ignore_compiled_data, uncompiled
from event_files import fit, one_layer, read, runs, soft_layers_of, steps, two_layers
from keras.ops import convert_to_numpy as to_numpy

from keras_softconv import SoftConv2D, structure_report
from keras_softconv.callbacks import AdaptiveStrengths, StructureMonitor
from keras_softconv.callbacks import compiled_numbers as numbers_module
from keras_softconv.diagnostics import soft_layers
from keras_softconv.evidence import curvature as curvature_module

pytestmark = pytest.mark.filterwarnings(ignore_compiled_data)


def counted(monkeypatch, module, name) -> list:
    """Has an entry for each call of a function of a module."""
    calls, function = [], getattr(module, name)

    def counting(*arguments):
        calls.append(name)
        return function(*arguments)

    monkeypatch.setattr(module, name, counting)
    return calls


@not_on("torch", "compiles nothing")
def test_the_numbers_are_traced_once_for_all_fits(images, tmp_path, monkeypatch):
    traced = counted(monkeypatch, numbers_module, "structure_numbers")
    model, monitor = one_layer(), StructureMonitor(tmp_path)
    for _ in range(4):
        fit(model, images, monitor, epochs=1)
    assert len(traced) == 1
    for events in read(tmp_path / "softconv").values():
        assert steps(events) == [0, 2, 4, 6, 8]


@not_on("torch", "compiles nothing")
def test_a_frozen_layer_is_noticed(monkeypatch):
    traced = counted(monkeypatch, numbers_module, "structure_numbers")
    model = one_layer(deviation_initializer="ones")
    numbers, penalties = numbers_module.CompiledNumbers(), []
    for trainable in (True, True, False):
        model.layers[0].trainable = trainable
        found = numbers(soft_layers(model), None).scalars
        penalties.append(found["softconv/one/a/tie_penalty"])
    assert len(traced) == 2
    assert penalties[0] == penalties[1] > penalties[2] == 0


@not_on("torch", "compiles nothing")
def test_another_model_is_noticed(images, tmp_path, monkeypatch):
    traced = counted(monkeypatch, numbers_module, "structure_numbers")
    monitor = StructureMonitor(tmp_path)
    models = [one_layer(), soft_layers_of("b", "second")]
    for model in models:
        fit(model, images, monitor, epochs=1)
        logged = read(monitor.run_dir)[f"softconv/{model.name}/{'ab'[len(traced) - 1]}"
                                       "/family_variance"]  # fmt: skip
        now = structure_report(model)[f"{model.name}/{model.layers[0].name}"]
        np.testing.assert_allclose(logged[-1][1], now["family_variance"], rtol=1e-5)
    assert len(traced) == 2


@not_on("torch", "compiles nothing")
def test_adaptive_strengths_are_traced_once_for_all_fits(images, monkeypatch):
    traced = counted(monkeypatch, curvature_module, "_predict")
    x, y = images
    model = two_layers()
    adaptive = AdaptiveStrengths(x, y, update_freq=1, probes=1)
    for _ in range(3):
        fit(model, images, adaptive, epochs=1)
    assert len(adaptive.history) == 3
    first = len(traced)
    assert first <= 2  # Keras's autograph or JAX may trace it twice at once
    model.layers[1].trainable = False
    model.compile("sgd", "mse")
    fit(model, images, adaptive, epochs=1)
    assert len(traced) > first
    assert set(adaptive.history[-1]) < set(adaptive.history[0])


@pytest.mark.parametrize("logs", ["summary", "all", None])
def test_what_is_added_to_logs(images, tmp_path, logs):
    model = two_layers(deviation_initializer="glorot_uniform")
    model.compile("sgd", "mse")
    monitor = StructureMonitor(tmp_path, logs=logs)
    x, y = images
    with uncompiled():
        history = model.fit(x, y, epochs=2, callbacks=[monitor], verbose=0).history
    found = {name for name in history if name.startswith("softconv/")}
    summary = "softconv/convolution_share"
    of_layers = {tag for tag in read(tmp_path / "softconv") if tag != summary}
    assert found == {"summary": {summary}, "all": {summary, *of_layers}, None: set()}[logs]
    assert len(of_layers) == 14
    if logs is None:
        return
    energies = [report["energies"] for report in structure_report(model).values()]
    whole = sum(sum(of_layer.values()) for of_layer in energies)
    expected = sum(of_layer["convolution"] for of_layer in energies) / whole
    assert 0 < expected < 1
    np.testing.assert_allclose(history[summary][-1], expected, rtol=1e-5)


def test_a_model_of_zeros_is_a_convolution(images, tmp_path):
    model = one_layer(kernel_initializer="zeros")
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x, y = images
    with uncompiled():
        fitted = model.fit(x, y, callbacks=[StructureMonitor(tmp_path)], verbose=0)
    assert fitted.history["softconv/convolution_share"] == [1.0]


@pytest.mark.parametrize("logs", ["none", 1, True, ["all"]])
def test_bad_logs(tmp_path, logs):
    message = r"`logs` must be 'summary', 'all' or None\. Received: logs=.*Use 'summary'"
    with pytest.raises(ValueError, match=message):
        StructureMonitor(tmp_path, logs=logs)


# Loops of one's own.


def by_hand(model, monitor, epochs, batches=2):
    """A loop that calls the callback as `fit` would, and changes the weights itself."""
    monitor.set_model(model)
    monitor.on_train_begin()
    for epoch in range(epochs):
        monitor.on_epoch_begin(epoch)
        for batch in range(batches):
            for layer in model.layers:
                layer.deviations.assign(layer.deviations + 0.1)
            monitor.on_train_batch_end(batch)
        logs = {}
        monitor.on_epoch_end(epoch, logs)
        assert 0 < logs["softconv/convolution_share"] <= 1
    monitor.on_train_end()


@pytest.mark.parametrize(
    ("update_freq", "expected"),
    [("epoch", [0, 1, 2, 3]), ("batch", [0, 1, 2, 3, 4, 5, 6]), (4, [0, 4])],
)
def test_a_model_that_was_never_compiled(tmp_path, update_freq, expected):
    model = one_layer()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        by_hand(model, StructureMonitor(tmp_path, update_freq), 3)
    assert not [one for one in caught if "StructureMonitor" in str(one.message)]
    for events in read(tmp_path / "softconv").values():
        assert steps(events) == expected
    now = structure_report(model)["one/a"]["off_template_mass"]
    logged = read(tmp_path / "softconv")["softconv/one/a/off_template_mass"]
    if update_freq != 4:
        np.testing.assert_allclose(logged[-1][1], now, rtol=1e-5)


def test_a_loop_of_ones_own_that_goes_on(tmp_path):
    model, monitor = one_layer(), StructureMonitor(tmp_path)
    for _ in range(2):
        by_hand(model, monitor, 2)
    assert runs(tmp_path) == ["softconv"]
    for events in read(tmp_path / "softconv").values():
        assert steps(events) == [0, 1, 2, 3, 4]


class TwoOptimizers(keras.Model):
    """Trains as generative adversarial networks do, with optimizers of its own."""

    def __init__(self):
        super().__init__(name="gan")
        self.soft = SoftConv2D(3, 3, padding="same", name="soft")

    def call(self, inputs):
        return self.soft(inputs)

    def train_on_batch(self, x, y):
        self.soft.deviations.assign(to_numpy(self.soft.deviations) * 0.5)
        return 0.0


def test_each_warning_is_given_once_a_training(images, tmp_path):
    model = TwoOptimizers()
    model(images[0])
    model.compile("sgd", "mse")  # whose optimizer makes no step
    monitor = StructureMonitor(tmp_path)
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            by_hand(model, monitor, 3)
        assert len([one for one in caught if "StructureMonitor" in str(one.message)]) == 1
