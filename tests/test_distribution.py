"""On several devices or in several processes training goes as on one device."""

import json

import keras
import numpy as np
import pytest
from event_files import read
from processes import finish, free_address, host_devices, needs_jax, run, start

pytestmark = pytest.mark.slow  # starts processes with several devices each

# The same small training on every device set; what it ends at goes into a file. Penalties
# are strong, so that any count but once shows, and Adam does not divide by noise.
TRAINING = """
import json, sys
from contextlib import nullcontext
from pathlib import Path
import keras, numpy as np, tensorflow as tf
from keras_softconv import SoftConv2D
from keras_softconv.callbacks import StructureMonitor

folder = Path(sys.argv[1])
ARGUMENTS = {"dense": {}, "halo": {"halo": 1, "penalty_registration": "regularizer"}}

def model_of(**arguments):
    keras.utils.set_random_seed(0)
    layer = SoftConv2D(
        4, 3, padding="same", deviation_initializer="glorot_uniform", name="soft",
        tie_regularizer=keras.regularizers.L2(0.5),
        off_template_regularizer=keras.regularizers.L2(0.2), **arguments,
    )
    model = keras.Sequential([keras.Input((5, 4, 2)), layer], name="small")
    model.compile(keras.optimizers.Adam(0.01, epsilon=1e-3), "mse")
    return model

def train(name, scope=nullcontext(), gather=keras.ops.convert_to_numpy):
    storage = name.rpartition("-")[2]
    random = np.random.default_rng(0)
    x, y = (random.normal(size=(8, 5, 4, n)).astype("float32") for n in (2, 4))
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    with scope:
        model = model_of(**ARGUMENTS[storage])
        monitor = StructureMonitor(folder / name)
        history = model.fit(batches, epochs=3, verbose=0, callbacks=[monitor]).history
        weights = {weight.path: gather(weight).tolist() for weight in model.weights}
    result = {"history": history, "weights": weights}
    (folder / f"{name}.json").write_text(json.dumps(result))
    return model
"""

MIRRORED = """
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for storage in ARGUMENTS:
    train(f"alone-{storage}")
    train(f"mirrored-{storage}", strategy.scope())
"""

# `replicas_n` spreads n copies of the model over all devices, the deviations of a copy
# by filters.
ON_JAX = """
from keras.distribution import DataParallel, DeviceMesh, LayoutMap, ModelParallel

names, address, count, process = sys.argv[2:]
if int(count) > 1:
    keras.distribution.initialize(address, int(count), int(process))
devices = keras.distribution.list_devices()

from jax.experimental.multihost_utils import process_allgather

def gather(weight):
    return np.asarray(process_allgather(weight.value, tiled=True))

def distribution_of(kind, storage):
    if kind == "data":
        return DataParallel(devices=devices)
    replicas = int(kind.removeprefix("replicas_"))
    shape = (replicas, len(devices) // replicas)
    layout = LayoutMap(DeviceMesh(shape, ("batch", "model"), devices))
    axes = {"dense": 6, "halo": 4}[storage]
    layout[".*/deviations"] = (None,) * (axes - 1) + ("model",)
    return ModelParallel(layout_map=layout, batch_dim_name="batch")

def slices(variable):
    return [shard.data.shape for shard in variable.value.addressable_shards]

for name in names.split():
    kind, storage = name.split("-")
    if kind == "alone":
        train(name)
        continue
    scope = distribution_of(kind, storage).scope()
    model = train(f"{process}-{name}", scope, gather)
    variables = [*model.weights, *model.optimizer.variables]
    shards = {variable.path: slices(variable) for variable in variables}
    (folder / f"{process}-{name}-shards.json").write_text(json.dumps(shards))
    if kind != "replicas_1" or count == "1":  # or Keras cannot gather the weights
        model.save(folder / f"{process}-{name}.keras")
"""

ON_DEVICES = ["data-dense", "replicas_2-dense", "replicas_2-halo"]
IN_PROCESSES = ["data-halo", "replicas_1-dense"]


def load(folder, name) -> dict:
    return json.loads((folder / f"{name}.json").read_text())


def assert_same_training(result, expected):
    assert result["history"].keys() == expected["history"].keys()
    for part in ("history", "weights"):
        for name, numbers in expected[part].items():
            np.testing.assert_allclose(
                result[part][name], numbers, rtol=1e-5, atol=1e-6, err_msg=name
            )


def alone(name) -> str:
    """The training without any distribution."""
    return f"alone-{name.rpartition('-')[2]}"


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirrored")
    run("-c", TRAINING + MIRRORED, folder, KERAS_BACKEND="tensorflow")
    return folder


@pytest.mark.parametrize("storage", ["dense", "halo"])
def test_mirrored_strategy_trains_as_one_device_does(mirrored, storage):
    result = load(mirrored, f"mirrored-{storage}")
    assert_same_training(result, load(mirrored, f"alone-{storage}"))
    assert result["history"]["loss"][-1] < result["history"]["loss"][0] - 0.1
    logged, expected = (
        read(mirrored / f"{kind}-{storage}" / "softconv") for kind in ("mirrored", "alone")
    )
    assert_same_events(logged, expected)


@pytest.fixture(scope="module")
def on_devices(tmp_path_factory):
    """Trained by one process on four devices of the processor."""
    folder = tmp_path_factory.mktemp("devices")
    names = " ".join(["alone-dense", "alone-halo", *ON_DEVICES])
    run("-c", TRAINING + ON_JAX, folder, names, "", 1, 0, **host_devices(4))
    return folder


@pytest.fixture(scope="module")
def in_processes(tmp_path_factory):
    """Trained by two processes on two devices each."""
    folder, address = tmp_path_factory.mktemp("processes"), free_address()
    arguments = "-c", TRAINING + ON_JAX, folder, " ".join(IN_PROCESSES), address, 2
    finish(*(start(*arguments, process, **host_devices(2)) for process in range(2)))
    return folder


def assert_sharded(shards, name, devices):
    """The deviations and their two slots, by filters; all the rest is replicated."""
    filters = {"data": 4, "replicas_2": 2, "replicas_1": 1}[name.split("-")[0]]
    ours = {path for path in shards if "soft_deviations" in path.replace("/", "_")}
    assert len(ours) == 3
    for path, shapes in shards.items():
        assert len(shapes) == devices
        expected = ([filters],) if path in ours else ([], [4])
        assert all(shape[-1:] in expected for shape in shapes), path


def assert_same_events(logged, expected):
    assert logged.keys() == expected.keys()
    for tag, events in logged.items():
        assert [step for step, _ in events] == [0, 2, 4, 6]
        np.testing.assert_allclose(events, expected[tag], rtol=1e-5, atol=1e-7)


@needs_jax
@pytest.mark.parametrize("name", ON_DEVICES)
def test_devices_train_as_one_and_hold_their_slices(on_devices, name):
    assert_same_training(load(on_devices, f"0-{name}"), load(on_devices, alone(name)))
    assert_sharded(load(on_devices, f"0-{name}-shards"), name, devices=4)
    logged, expected = (
        read(on_devices / run_name / "softconv") for run_name in (f"0-{name}", alone(name))
    )
    assert_same_events(logged, expected)


@needs_jax
@pytest.mark.parametrize("name", IN_PROCESSES)
def test_processes_train_as_one_and_hold_their_slices(on_devices, in_processes, name):
    for process in range(2):
        result = load(in_processes, f"{process}-{name}")
        assert_same_training(result, load(on_devices, alone(name)))
        shards = load(in_processes, f"{process}-{name}-shards")
        assert_sharded(shards, name, devices=2)


@needs_jax
def test_every_process_saves_the_whole_model(in_processes):
    for process in range(2):
        file = in_processes / f"{process}-data-halo.keras"
        weights = load(in_processes, f"{process}-data-halo")["weights"].values()
        saved = keras.models.load_model(file, compile=False).get_weights()
        for ours, trained in zip(saved, weights, strict=True):
            np.testing.assert_array_equal(ours, np.float32(trained))


@needs_jax
@pytest.mark.parametrize("name", IN_PROCESSES)
def test_only_the_first_process_logs(on_devices, in_processes, name):
    logged = read(in_processes / f"0-{name}" / "softconv")
    assert_same_events(logged, read(on_devices / alone(name) / "softconv"))
    assert not (in_processes / f"1-{name}").exists()


# From a quarter of a gigabyte on, devices together, Keras draws weights on the devices.
LARGE = """
import keras
from keras_softconv import SoftConv2D

devices = keras.distribution.list_devices()
with keras.distribution.DataParallel(devices=devices).scope():
    layer = SoftConv2D(1, 3, padding="same", deviation_initializer="glorot_uniform")
    layer.build((None, 64, 64, 1))
print(layer.deviations.value.std())
"""


@needs_jax
def test_a_large_layer_is_made_on_its_devices():
    deviation = float(run("-c", LARGE, **host_devices(4)))
    assert deviation == pytest.approx((1 / 4096) ** 0.5, rel=1e-2)
