"""The one door to Keras, of which this folder alone knows that there have been two.

    from keras_softconv.compat import keras, ops

With Keras 3 these are `keras` and `keras.ops` themselves. With Keras 2.15, the last that
TensorFlow Addons runs with, they are that Keras with what the package needs of today's
put in front of it.
"""

import keras as installed

from keras_softconv.compat.traces import (
    is_in_inner_trace,
    is_stateless,
    is_symbolic,
    mark_beginning,
    running_traces,
    trace_of,
)
from keras_softconv.compat.versions import check_version

check_version(installed.__version__)
if installed.__version__.startswith("2."):
    from keras_softconv.compat.keras2 import (
        build_like,
        carry_through_training,
        forked_random_state,
        keras,
        name_of,
        offer_to_keras,
        ops,
        pad,
        predictions,
        registration_of,
        regularizer_of,
        type_of_losses,
    )
else:
    from keras import ops

    from keras_softconv.compat.keras3 import (
        build_like,
        carry_through_training,
        forked_random_state,
        keras,
        name_of,
        offer_to_keras,
        pad,
        predictions,
        registration_of,
        regularizer_of,
        type_of_losses,
    )

__all__ = [
    "build_like",
    "carry_through_training",
    "forked_random_state",
    "is_in_inner_trace",
    "is_stateless",
    "is_symbolic",
    "keras",
    "mark_beginning",
    "name_of",
    "offer_to_keras",
    "ops",
    "pad",
    "predictions",
    "registration_of",
    "regularizer_of",
    "running_traces",
    "trace_of",
    "type_of_losses",
]
