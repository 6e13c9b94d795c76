"""Train on several devices, or as one of several processes, and watch the structure.

A network with a SoftConv2D tells scikit-learn's 8x8 digits apart. On TensorFlow it is
copied to every device (`MirroredStrategy`). On JAX it is copied to every device too
(`DataParallel`) or, with `--shard`, the deviations are spread over them by filters
(`ModelParallel`). The numbers printed are the same on however many devices.

    python examples/train_on_many_devices.py [--epochs 3] [--log-dir logs/many_devices]
    KERAS_BACKEND=jax python examples/train_on_many_devices.py --devices 4 [--shard]

Two processes that meet at a free port of the first one's machine (JAX):

    export KERAS_BACKEND=jax KERAS_DISTRIBUTION_NUM_PROCESSES=2
    export KERAS_DISTRIBUTION_JOB_ADDRESSES=127.0.0.1:12345
    KERAS_DISTRIBUTION_PROCESS_ID=0 python examples/train_on_many_devices.py &
    KERAS_DISTRIBUTION_PROCESS_ID=1 python examples/train_on_many_devices.py
"""

import argparse
import os
from contextlib import AbstractContextManager
from pathlib import Path

import keras
import tensorflow as tf
from sklearn.datasets import load_digits

from keras_softconv import SoftConv2D
from keras_softconv.callbacks import StructureMonitor

BATCH = 40  # of all devices together; they share it equally


def split_processor(devices: int) -> None:
    """Let the backend take the processor for several devices."""
    if keras.backend.backend() == "jax":
        import jax

        jax.config.update("jax_num_cpu_devices", devices)
    else:
        processor = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * devices
        tf.config.set_logical_device_configuration(processor, parts)


def mirrored() -> AbstractContextManager:
    kinds = [tf.config.list_logical_devices(kind) for kind in ("GPU", "CPU")]
    names = [device.name for device in kinds[0] or kinds[1]]
    return tf.distribute.MirroredStrategy(names).scope()


def distributed(shard: bool) -> AbstractContextManager:
    devices = keras.distribution.list_devices()  # of all processes
    if not shard:
        return keras.distribution.DataParallel(devices=devices).scope()
    mesh = keras.distribution.DeviceMesh((1, len(devices)), ("batch", "model"), devices)
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*soft/deviations"] = (None, None, None, "model")
    return keras.distribution.ModelParallel(layout_map=layout).scope()


def digits() -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """Training and test batches, in the same order in every process."""
    data = load_digits()
    images = tf.data.Dataset.from_tensor_slices(
        (data.images[..., None].astype("float32") / 16, data.target)
    )
    train, test = images.take(1400), images.skip(1400).take(360)
    train = train.shuffle(1400, seed=0).batch(BATCH, drop_remainder=True)
    return train, test.batch(BATCH, drop_remainder=True)


def new_model() -> keras.Model:
    ridge = keras.regularizers.L2(1e-3)
    soft = SoftConv2D(
        8, 3, activation="relu", halo=1, name="soft",
        tie_regularizer=ridge, off_template_regularizer=ridge,
    )  # fmt: skip
    flatten = keras.layers.Flatten()
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), soft, flatten, keras.layers.Dense(10)], name="digits"
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--devices", type=int, help="split the processor into so many")
    parser.add_argument("--shard", action="store_true", help="spread the deviations (JAX)")
    parser.add_argument("--log-dir", type=Path, default=Path("logs/many_devices"))
    options = parser.parse_args()
    on_jax = keras.backend.backend() == "jax"
    if not on_jax and keras.backend.backend() != "tensorflow":
        parser.error("needs KERAS_BACKEND=jax or tensorflow")
    if options.shard and not on_jax:
        parser.error("--shard needs KERAS_BACKEND=jax")

    if options.devices:
        split_processor(options.devices)
    if "KERAS_DISTRIBUTION_NUM_PROCESSES" in os.environ:
        keras.distribution.initialize()  # before anything is computed
    keras.utils.set_random_seed(0)
    train, test = digits()
    with distributed(options.shard) if on_jax else mirrored():
        model = new_model()
        # In every process; the first one writes.
        monitor = StructureMonitor(options.log_dir)
        model.fit(
            train, epochs=options.epochs, shuffle=False, verbose=0, callbacks=[monitor]
        )
        results = model.evaluate(test, verbose=0, return_dict=True)
    print(f"test loss {results['loss']:.4f}, accuracy {results['accuracy']:.4f}")
    print(f"Structure, step by step: tensorboard --logdir {options.log_dir}")


if __name__ == "__main__":
    main()
