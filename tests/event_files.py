"""Event files are read back, and the trainings that wrote them."""

import keras
from tensorboard.backend.event_processing.event_accumulator import (
    TENSORS,
    EventAccumulator,
)
from tensorboard.util.tensor_util import make_ndarray

from keras_softconv import SoftConv2D


def accumulated(folder) -> EventAccumulator:
    """What is in the monitor's first run of a log folder."""
    return loaded(folder / "softconv")


def runs(folder) -> list[str]:
    """The names of the monitor's runs in a log folder."""
    return sorted(path.name for path in folder.glob("softconv*"))


def loaded(run) -> EventAccumulator:
    """All event files of a run, or one of them."""
    return EventAccumulator(str(run), size_guidance={TENSORS: 0}).Reload()


def read(run) -> dict[str, list[tuple[int, float]]]:
    """(step, value) by tag, of the scalars of a run."""
    scalars = of_plugin(loaded(run), "scalars")
    return {tag: [(s, value.item()) for s, value in e] for tag, e in scalars.items()}


def of_plugin(events, plugin) -> dict[str, list]:
    """(step, array) by tag, of what one dashboard shows."""
    return {
        tag: [(e.step, make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
        if events.SummaryMetadata(tag).plugin_data.plugin_name == plugin
    }


def steps(events) -> list[int]:
    return [step for step, _ in events]


def soft_layers_of(names, model, **arguments) -> keras.Model:
    layers = [SoftConv2D(3, 3, padding="same", name=name, **arguments) for name in names]
    return keras.Sequential([keras.Input((5, 4, 2)), *layers], name=model)


def one_layer(**arguments) -> keras.Model:
    return soft_layers_of("a", "one", **arguments)


def two_layers(**arguments) -> keras.Model:
    return soft_layers_of("ab", "two", **arguments)


def fit(model, images, *callbacks, epochs=4):
    """Two steps an epoch."""
    if getattr(model, "optimizer", None) is None:
        model.compile("sgd", "mse")
    x, y = images
    model.fit(x, y, epochs=epochs, batch_size=4, callbacks=list(callbacks), verbose=0)
