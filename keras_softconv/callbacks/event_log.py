"""Event files for TensorBoard, written without TensorFlow."""

import time
from pathlib import Path
from typing import Any

import numpy as np

HISTOGRAM_BUCKETS = 30


class EventLog:
    """One run of TensorBoard, in an event file of its own.

    TensorBoard's own modules, which make and write the records, are imported here as they
    are needed: on every backend, and TensorFlow only where TensorBoard finds it.

    Args:
        folder: of the run; made if need be.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(folder))

    def scalars(
        self, values: dict[str, float], step: int, descriptions: dict[str, str]
    ) -> None:
        """Values and what they mean, by tag; all in one record, which is quicker."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb

        together = Summary()
        for tag, value in values.items():
            together.MergeFrom(scalar_pb(tag, value, descriptions[tag]))
        self._add(together, step)

    def text(self, tag: str, markdown: str, step: int, description: str) -> None:
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._add(text_pb(tag, markdown, description), step)

    def histogram(
        self, tag: str, values: np.ndarray, absent: int, step: int, description: str
    ) -> None:
        """A histogram of the values without so many zeros, which stand for no weight."""
        from tensorboard.plugins.histogram.metadata import create_summary_metadata

        buckets = histogram_buckets(values, absent)
        self._add_tensor(tag, buckets, create_summary_metadata(None, description), step)

    def image(self, tag: str, png: bytes, step: int, description: str) -> None:
        from tensorboard.plugins.image.metadata import create_summary_metadata

        # A PNG begins with its width and height.
        size = [str(int.from_bytes(png[at : at + 4])).encode() for at in (16, 20)]
        metadata = create_summary_metadata(None, description)
        self._add_tensor(tag, np.array([*size, png], object), metadata, step)

    def layout(self, layout: Any) -> None:
        """A `tensorboard.plugins.custom_scalar.layout_pb2.Layout`."""
        from tensorboard.plugins.custom_scalar import metadata

        content = np.array(layout.SerializeToString(), object)
        tag = metadata.CONFIG_SUMMARY_TAG
        self._add_tensor(tag, content, metadata.create_summary_metadata(), 0)

    def hyper_parameters(self, values: dict[str, Any]) -> None:
        """What the HParams dashboard compares runs by."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb

        self._add(hparams_pb(values), 0)

    def end_of_session(self) -> None:
        """Tell the HParams dashboard that the training came to its end."""
        from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

        end = plugin_data_pb2.SessionEndInfo(
            status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time()
        )
        content = metadata.create_summary_metadata(
            plugin_data_pb2.HParamsPluginData(session_end_info=end)
        )
        self._add_tensor(metadata.SESSION_END_INFO_TAG, np.float32(0), content, 0)

    def restart(self, step: int) -> None:
        """Tell readers to forget what earlier files say of this step and later ones.

        TensorBoard takes the first such message of a run for its beginning.
        """
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        started = SessionLog(status=SessionLog.START)
        self._writer.add_event(Event(step=step, wall_time=time.time(), session_log=started))

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _add_tensor(self, tag: str, values: Any, metadata: Any, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.util.tensor_util import make_tensor_proto

        summary = Summary()
        summary.value.add(tag=tag, tensor=make_tensor_proto(values), metadata=metadata)
        self._add(summary, step)

    def _add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(step=step, wall_time=time.time(), summary=summary))


def is_logged(folder: Path, tag: str, step: int) -> bool:
    """Whether the event files of a run have a value of a tag at a step."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    for file in event_files(folder):
        for event in EventFileLoader(str(file)).Load():
            if event.step == step and tag in [one.tag for one in event.summary.value]:
                return True
    return False


def event_files(folder: Path) -> list[Path]:
    """The event files of a run."""
    return sorted(folder.glob("*tfevents*"))


def histogram_buckets(values: np.ndarray, absent: int) -> np.ndarray:
    """Left edge, right edge and count of each bucket, float64 `(buckets, 3)`.

    Args:
        values: what to count.
        absent: how many zeros among them not to count.
    """
    # Float32 has no thirty numbers between some, and no difference of others.
    finite = values[np.isfinite(values)].astype("float64")
    counts, edges = np.histogram(finite, bins=HISTOGRAM_BUCKETS)
    if absent:
        at_zero = min(np.searchsorted(edges, 0, side="right"), HISTOGRAM_BUCKETS) - 1
        counts[at_zero] = max(counts[at_zero] - absent, 0)  # they can have become NaN
    return np.stack([edges[:-1], edges[1:], counts], axis=1).astype("float64")
