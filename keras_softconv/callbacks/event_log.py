"""Event files for TensorBoard, written without TensorFlow."""

import os
import socket
import time
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from keras_softconv.callbacks.log_folder import (
    GrowingFile,
    joined,
    make_new_folder,
    names_in,
)

HISTOGRAM_BUCKETS = 30

# A remote file is written as a whole each time, so that it must not grow for ever.
LARGEST_REMOTE_FILE = 2**20

_numbers = count()


class EventLog:
    """Events of one run of TensorBoard, in event files of their own.

    Events are collected, and written by `flush`. TensorBoard's own modules, which make the
    records, are imported as they are needed, on every backend.

    Args:
        folder: of the run.
        begins_at: what earlier files say of this step and later ones is overtaken; None
            if nothing is.
    """

    def __init__(self, folder: Path | str, begins_at: int | None) -> None:
        self._folder = folder
        self._begins_at = begins_at
        self._file = None
        self._opening = []  # records that each file begins with
        self._records = []  # records that are not written yet

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

    def state(self, tag: str, values: np.ndarray, step: int, description: str) -> None:
        """Numbers that no dashboard shows."""
        from tensorboard.compat.proto.summary_pb2 import SummaryMetadata

        metadata = SummaryMetadata(summary_description=description)
        metadata.plugin_data.plugin_name = tag.partition("/")[0]
        self._add_tensor(tag, values, metadata, step)

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

    def begin_files_with_these(self) -> None:
        """Let every file of this log begin with the events that were collected so far.

        A second file is begun where the first is full, or was removed by somebody.
        """
        self._opening, self._records = self._records, []

    def flush(self) -> None:
        """Write what was collected, or raise the error of the file system and drop it."""
        records, self._records = self._records, []
        if self._file is None:
            make_new_folder(self._folder)
            self._file = GrowingFile(joined(self._folder, _new_name()))
        if not self._file.size:
            restart = [] if self._begins_at is None else [_restart(self._begins_at)]
            records = [_version(), *restart, *self._opening, *records]
        try:
            self._file.append(b"".join(map(_framed, records)))
        except BaseException:
            if not self._file.is_whole():
                self._file = None
            raise
        self._begins_at = None
        if not isinstance(self._folder, Path) and self._file.size > LARGEST_REMOTE_FILE:
            self._file = None

    def _add_tensor(self, tag: str, values: Any, metadata: Any, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.util.tensor_util import make_tensor_proto

        summary = Summary()
        summary.value.add(tag=tag, tensor=make_tensor_proto(values), metadata=metadata)
        self._add(summary, step)

    def _add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        event = Event(step=step, wall_time=time.time(), summary=summary)
        self._records.append(event.SerializeToString())


def _new_name() -> str:
    """A name that no other file has, and that comes after those of earlier files.

    TensorBoard reads the files of a run in the order of their names.
    """
    seconds, process, number = int(time.time()), os.getpid(), next(_numbers)
    host = socket.gethostname()
    return f"events.out.tfevents.{seconds:010d}.{host}.{process}.{number:06d}"


def _version() -> bytes:
    """The record that every event file begins with."""
    from tensorboard.compat.proto.event_pb2 import Event, SourceMetadata

    writer = SourceMetadata(writer=__name__)
    version = "brain.Event:2"
    event = Event(wall_time=time.time(), file_version=version, source_metadata=writer)
    return event.SerializeToString()


def _restart(step: int) -> bytes:
    """Makes readers forget what earlier files say of this step and later ones.

    TensorBoard takes the first such message of a run for its beginning.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    started = SessionLog(status=SessionLog.START)
    event = Event(step=step, wall_time=time.time(), session_log=started)
    return event.SerializeToString()


def _framed(record: bytes) -> bytes:
    """A record as it is in an event file, with its length and its checksums."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = BytesIO()
    RecordWriter(buffer).write(record)
    return buffer.getvalue()


def values_of(folder: Path | str, tag: str) -> dict[int, np.ndarray]:
    """What a run has of a tag, by step, as TensorBoard shows it.

    What a later session has overtaken is left out.
    """
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.compat.proto.event_pb2 import SessionLog
    from tensorboard.util.tensor_util import make_ndarray

    values = {}
    for name in names_in(folder):
        if "tfevents" not in name:
            continue
        for event in EventFileLoader(str(joined(folder, name))).Load():
            if event.session_log.status == SessionLog.START:
                values = {step: x for step, x in values.items() if step < event.step}
            for one in event.summary.value:
                if one.tag == tag:
                    values[event.step] = make_ndarray(one.tensor)
    return values


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
