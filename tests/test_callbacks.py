"""Event files are read back: tags, steps and values, and nobody is disturbed."""

import csv
import re
from contextlib import nullcontext
from functools import cache

import independent
import keras
import numpy as np
import pytest
from backends import BACKEND, not_on, tensorflow_only
from cheap_training import ignore_compiled_data, random_images, rewinding, uncompiled
from event_files import read, runs
from soft_models import numpy_weights, path_of, soft_model

from keras_softconv import SoftConv2D
from keras_softconv.callbacks import StructureMonitor
from keras_softconv.diagnostics import soft_layers

pytestmark = pytest.mark.filterwarnings(ignore_compiled_data)

NAMES = [
    "family_variance",
    "family_variance_min",
    "family_variance_max",
    "off_template_mass",
    "convolution_share",
    "tie_penalty",
    "off_template_penalty",
]


def expected_numbers(model) -> dict[str, float]:
    """All tags with their values now, computed by NumPy in float64."""
    numbers = {}
    for path, layer in soft_layers(model).items():
        ids = layer.family_ids()
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        named = independent.structure_numbers(kernel, ids)
        named |= independent.penalties(
            numpy_weights(layer),
            ids,
            lambda x: 1e-3 * (x**2).sum(),
            lambda x: 1e-3 * (x**2).sum(),
            strengths=(float(layer.tie_strength), float(layer.off_template_strength)),
        )
        numbers |= {f"softconv/{path}/{name}": v for name, v in named.items()}
    return numbers


class Witness(keras.callbacks.Callback):
    """Keeps the expected numbers of every step that it sees."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def look(self):
        self.seen[int(self.model.optimizer.iterations)] = expected_numbers(self.model)

    def on_train_begin(self, logs=None):
        self.look()

    def on_train_batch_end(self, batch, logs=None):
        self.look()


def compiled(model=None, **arguments):
    model = model or soft_model()
    model.compile("sgd", "mse", **arguments)
    return model


@pytest.fixture(scope="module")
def rewound():
    """A function that always returns the same model, as if it were new."""
    keras.utils.set_random_seed(0)
    model = soft_model()
    model.compile("adam", "mse")
    return rewinding(model)


def fit(model, images, callbacks, epochs=3, batch_size=2, **arguments):
    """Four batches an epoch."""
    x, y = images
    return model.fit(
        x, y, epochs=epochs, batch_size=batch_size, callbacks=callbacks, verbose=0,
        **arguments,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("update_freq", "steps"),
    [
        ("epoch", [0, 4, 8, 12]),
        ("batch", list(range(13))),
        (5, [0, 5, 10]),
        (2, [0, 2, 4, 6, 8, 10, 12]),  # an epoch ends with one of them
    ],
)
def test_tags_steps_and_values(images, tmp_path, rewound, update_freq, steps):
    model, witness = rewound(), Witness()
    model.layers[0].tie_strength.assign(2.0)
    fit(model, images, [StructureMonitor(tmp_path, update_freq), witness])
    logged = read(tmp_path / "softconv")
    assert set(logged) == {f"softconv/{path_of(model)}/{name}" for name in NAMES}
    for tag, events in logged.items():
        assert [step for step, _ in events] == steps
        expected = [witness.seen[step][tag] for step in steps]
        values = [value for _, value in events]
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-9)


def test_every_layer_of_a_nested_model(images, tmp_path):
    x, _ = images
    inner = soft_model("deep")
    top = soft_model("top")
    model = keras.Sequential([keras.Input(x.shape[1:]), inner, keras.layers.Conv2D(2, 1),
                              *top.layers])  # fmt: skip
    with uncompiled():
        fit(compiled(model), images, [StructureMonitor(tmp_path)], epochs=1)
    paths = [f"{model.name}/{inner.name}/deep", f"{model.name}/top"]
    assert set(read(tmp_path / "softconv")) == {
        f"softconv/{path}/{name}" for path in paths for name in NAMES
    }


def beside(model, folder, keras_freq, *monitors):
    """Trains with Keras's own callback, and with other callbacks before and after it."""
    before, after = monitors or ([], [])
    # That of Keras 2 looks at batches only if another callback does.
    batchwise = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)
    tensorboard = keras.callbacks.TensorBoard(folder, update_freq=keras_freq)
    keras.utils.set_random_seed(1)
    images = random_images()
    callbacks = [*before, tensorboard, *after, batchwise]
    fit(model, images, callbacks, validation_data=images)


@pytest.fixture(scope="module")
def tensorboard_alone(rewound, tmp_path_factory):
    """A function of how often Keras's own callback writes: where it did so alone."""

    @cache
    def alone(keras_freq):
        folder = tmp_path_factory.mktemp("alone")
        beside(rewound(), folder, keras_freq)
        return folder

    return alone


@pytest.mark.parametrize(
    ("keras_freq", "keras_first"),
    [
        ("epoch", True),
        ("batch", False),
        *(
            pytest.param(*both, marks=pytest.mark.slow)
            for both in (("epoch", False), ("batch", True), (3, True), (3, False))
        ),
    ],
)
def test_beside_the_tensorboard_callback(
    tmp_path, rewound, tensorboard_alone, keras_freq, keras_first
):
    alone = tensorboard_alone(keras_freq)
    monitor = [StructureMonitor(tmp_path, 5)]
    before, after = ([], monitor) if keras_first else (monitor, [])
    beside(rewound(), tmp_path, keras_freq, before, after)
    ours = read(tmp_path / "softconv")
    assert [[s for s, _ in events] for events in ours.values()] == [[0, 5, 10]] * 7
    for run in ("train", "validation"):
        expected, found = (read(folder / run) for folder in (alone, tmp_path))
        extra = {tag for tag in found if "softconv" in tag}
        # Numbers in `logs` are everybody's, who comes later in the list.
        assert bool(extra) == (not keras_first and run == "train")
        assert {tag: found[tag] for tag in found if tag not in extra} == expected


def test_logs_are_seen_by_history_csv_and_early_stopping(images, tmp_path, rewound):
    model = rewound()
    tag = f"softconv/{path_of(model)}/off_template_mass"
    stop = keras.callbacks.EarlyStopping(tag, patience=1, min_delta=10.0, mode="min")
    file = tmp_path / "log.csv"
    history = fit(
        model,
        images,
        [StructureMonitor(tmp_path, logs="all"), keras.callbacks.CSVLogger(file), stop],
        epochs=9,
    ).history
    logged = [value for _, value in read(tmp_path / "softconv")[tag]]
    assert len(history[tag]) == 2  # no improvement by 10 in the second epoch
    np.testing.assert_allclose(history[tag], logged[1:], rtol=1e-6)
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    np.testing.assert_allclose([float(r[tag]) for r in rows], history[tag], rtol=1e-6)


@pytest.mark.parametrize(
    ("update_freq", "steps"),
    [
        ("epoch", [0, 2, 4, 6]),
        ("batch", [0, 1, 2, 3, 4, 5, 6]),
        (2, [0, 2, 4, 6]),
    ],
)
def test_a_second_fit_goes_on_where_the_first_ended_and_writes_no_step_twice(
    images, tmp_path, rewound, update_freq, steps
):
    model, monitor = rewound(), StructureMonitor(tmp_path, update_freq)
    with nullcontext() if update_freq == "batch" else uncompiled():
        fit(model, images, [monitor], epochs=2, batch_size=4)
        fit(model, images, [monitor], epochs=1, batch_size=4)
    for events in read(tmp_path / "softconv").values():
        assert [step for step, _ in events] == steps


def test_another_model_with_the_same_monitor_has_a_run_of_its_own(images, tmp_path):
    monitor = StructureMonitor(tmp_path)
    first, second = compiled(), compiled(soft_model("other"))
    with uncompiled():
        fit(first, images, [monitor], epochs=1)
        fit(second, images, [], epochs=1)
        fit(second, images, [monitor], epochs=1)
    assert runs(tmp_path) == ["softconv", f"softconv_2_{second.name}"]
    for run, model, steps in (
        ("softconv", first, [0, 4]),
        (f"softconv_2_{second.name}", second, [4, 8]),
    ):
        logged = read(tmp_path / run)
        assert set(logged) == {f"softconv/{path_of(model)}/{name}" for name in NAMES}
        for events in logged.values():
            assert [step for step, _ in events] == steps


class OwnOptimizer(keras.Model):
    """Trains with another optimizer than the compiled one."""

    def __init__(self):
        super().__init__()
        self.soft = SoftConv2D(3, 3, padding="same")
        self.own = keras.optimizers.SGD(0.1)

    def call(self, inputs):
        return self.soft(inputs)

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x) - y) ** 2)
        variables = self.trainable_variables
        self.own.apply_gradients(
            zip(tape.gradient(loss, variables), variables, strict=True)
        )
        return {"loss": loss}


@tensorflow_only
def test_an_optimizer_that_does_not_count_is_told(images, tmp_path):
    model = OwnOptimizer()
    model(images[0])
    message = r"`model.optimizer.iterations`, which stayed at 0 through an epoch.*Train"
    with uncompiled(), pytest.warns(UserWarning, match=message) as warned:
        history = fit(compiled(model), images, [StructureMonitor(tmp_path)], epochs=3)
    assert sum("StructureMonitor" in str(one.message) for one in warned) == 1
    # The numbers are in `logs` all the same.
    assert len(history.history["softconv/convolution_share"]) == 3


@not_on("torch", "does not take several steps at once")
def test_several_steps_per_execution(images, tmp_path):
    model = compiled(steps_per_execution=4)
    fit(model, images, [StructureMonitor(tmp_path, 3)])
    for events in read(tmp_path / "softconv").values():
        assert [step for step, _ in events] == [0, 4, 8, 12]


def test_mixed_precision_counts_the_optimizer_steps(images, tmp_path):
    model = soft_model(dtype="mixed_float16")
    model.compile(keras.mixed_precision.LossScaleOptimizer(keras.optimizers.SGD()), "mse")
    fit(model, images, [StructureMonitor(tmp_path)])
    for events in read(tmp_path / "softconv").values():
        assert [step for step, _ in events] == [0, 4, 8, 12]
        assert np.isfinite([value for _, value in events]).all()


@pytest.mark.parametrize(("update_freq", "steps"), [("epoch", [4, 8]), (3, [3, 6])])
def test_a_model_that_is_built_by_its_first_fit(images, tmp_path, update_freq, steps):
    model = compiled(keras.Sequential([SoftConv2D(3, 3, padding="same")]))
    monitor = StructureMonitor(tmp_path, update_freq)
    message = r"cannot log model '.*' before .*`keras.Input`"
    warned = pytest.warns(UserWarning, match=message)
    if BACKEND != "tensorflow":  # Keras builds it before the first step
        warned, steps = nullcontext(), [0, *steps]
    with warned:
        fit(model, images, [monitor], epochs=2)
    for events in read(tmp_path / "softconv").values():
        assert [step for step, _ in events] == steps


def test_only_scalars_leave_the_device(images, tmp_path, rewound, monkeypatch):
    model = rewound()
    sizes = []
    convert = keras.ops.convert_to_numpy

    def witness(tensor):
        array = convert(tensor)
        sizes.append(array.size)
        return array

    monkeypatch.setattr("keras.ops.convert_to_numpy", witness)
    monitor, seen = StructureMonitor(tmp_path), []
    monitor.on_train_end = lambda logs=None: seen.extend(sizes)  # before the report
    fit(model, images, [monitor], epochs=2)
    # Regularizers' factors, and seven numbers and three energies of the layer, three times.
    assert max(seen) == 10
    assert seen.count(10) == 3


def test_no_batch_hook_unless_asked(tmp_path):
    default = keras.callbacks.Callback.on_train_batch_end
    assert StructureMonitor(tmp_path).on_train_batch_end.__func__ is default
    assert StructureMonitor(tmp_path, 5).on_train_batch_end.__func__ is not default


@pytest.mark.parametrize("name", ["histogram_freq", "image_freq"])
@pytest.mark.parametrize("frequency", [-1, 0.5, True, "epoch", None])
def test_bad_number_of_epochs(tmp_path, name, frequency):
    message = rf"`{name}` must be.*: {name}={re.escape(repr(frequency))}\. Use 0, or 1"
    with pytest.raises(ValueError, match=message):
        StructureMonitor(tmp_path, **{name: frequency})


@pytest.mark.parametrize("update_freq", [0, -1, 1.5, True, "step", None, [1, 2]])
def test_bad_update_freq(tmp_path, update_freq):
    message = (
        rf"`update_freq` must.*: update_freq={re.escape(repr(update_freq))}. Use 'epoch'"
    )
    with pytest.raises(ValueError, match=message):
        StructureMonitor(tmp_path, update_freq)


def test_log_dir_that_is_no_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("kept")
    for log_dir in (file, None):
        with pytest.raises(ValueError, match=r"`log_dir` must be the path of a folder"):
            StructureMonitor(log_dir)
    assert file.read_text() == "kept"


def test_a_model_without_soft_layers_leaves_no_log(images, tmp_path):
    model = keras.Sequential([keras.Input((5, 4, 2)), keras.layers.Conv2D(3, 1, name="c")])
    message = r"no SoftConv layer.*Received: model '.*' with layers \['c'\]. Add"
    with pytest.raises(ValueError, match=message):
        fit(compiled(model), images, [StructureMonitor(tmp_path)])
    assert list(tmp_path.iterdir()) == []
