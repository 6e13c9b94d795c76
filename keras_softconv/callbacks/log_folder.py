"""Where logs are written: local folders, and the remote ones that TensorBoard knows."""

import os
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

# A scheme has two letters at least: one letter is a drive of Windows.
SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(/+)")

# After a failure the log is left alone for so many times as long as the failure took.
# A remote file system can take minutes to fail, and the training must not wait for it.
PATIENCE = 10


def standardize_log_dir(log_dir: Any) -> Path | str:
    """The folder as a `Path`, or as a string where it is on a remote file system.

    Raises:
        ValueError: for a file, an unknown file system, or a misspelt address.
    """
    is_path = isinstance(log_dir, (str, os.PathLike))
    address = os.path.expanduser(os.fsdecode(log_dir)) if is_path else ""
    if not is_path or os.path.isfile(address):
        raise ValueError(
            "`log_dir` must be the path of a folder, which is made if need be, and not of "
            f"a file. Received: log_dir={log_dir!r}. Give a folder such as 'logs'."
        )
    scheme = SCHEME.match(address)
    if scheme is None:
        return Path(os.path.abspath(address))
    if scheme[2] == "/":
        raise ValueError(
            f"`log_dir` begins with '{scheme[0]}', where the address of a remote file "
            f"system has two slashes. Received: log_dir={log_dir!r}. `pathlib.Path` drops "
            f"one of them: give a string such as '{scheme[1]}://bucket/logs'."
        )
    _check_file_system(address, scheme[1])
    return address.rstrip("/")


def _check_file_system(address: str, scheme: str) -> None:
    """Raise `ValueError` if TensorBoard cannot write to this kind of address."""
    gfile = _gfile()
    try:
        if _is_of_tensorflow(gfile):
            is_known = scheme in gfile.get_registered_schemes()
        else:
            is_known = gfile.get_filesystem(address) is not None
        reason = ""
    except (ImportError, ValueError) as error:
        is_known, reason = False, f" ({error})"
    if not is_known:
        raise ValueError(
            f"`log_dir` is on a file system that TensorBoard does not know: '{scheme}://'"
            f"{reason}. Received: log_dir={address!r}. Give a local folder, install the "
            "package that adds this file system (such as tensorflow-io, or without "
            "TensorFlow fsspec and its extension), or copy the logs there afterwards."
        )


def _gfile() -> Any:
    """TensorFlow's file systems, or without TensorFlow TensorBoard's own."""
    from tensorboard.compat import tf

    return tf.io.gfile


def _is_of_tensorflow(gfile: Any) -> bool:
    return hasattr(gfile, "get_registered_schemes")


def joined(folder: Path | str, name: str) -> Path | str:
    """The path of something within a folder."""
    if isinstance(folder, Path):
        return folder / name
    return f"{folder}/{name}"


def names_in(folder: Path | str) -> list[str]:
    """The names of what is in a folder, in order; none where there is no folder."""
    if isinstance(folder, Path):
        return sorted(os.listdir(folder)) if folder.is_dir() else []
    gfile = _gfile()
    if not gfile.isdir(folder):
        return []
    return sorted(name.rstrip("/") for name in gfile.listdir(folder))


def make_new_folder(folder: Path | str) -> bool:
    """Make a folder and those around it; False if it was there before.

    On local file systems only one of several processes gets True for the same folder.
    """
    if isinstance(folder, Path):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            return False
        return True
    gfile = _gfile()
    if gfile.isdir(folder):
        return False
    gfile.makedirs(folder)
    return True


class GrowingFile:
    """A file to which bytes are appended; what cannot be written whole is not written.

    Nothing is left open between two calls, so that nothing has to be closed either.

    Args:
        path: of the file, which is made by the first call of `append`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self.size = 0
        # Some remote files can only be written as a whole, from this content.
        self._content = b""

    def append(self, data: bytes) -> None:
        if isinstance(self.path, Path):
            self._append_locally(data)
        else:
            self._append_remotely(data)
        self.size += len(data)

    def is_whole(self) -> bool:
        """Whether, after a failure, the file has what was appended before and no more."""
        return isinstance(self.path, Path) and self.path.is_file()

    def _append_remotely(self, data: bytes) -> None:
        gfile = _gfile()
        if _is_of_tensorflow(gfile):
            with gfile.GFile(self.path, "ab") as file:
                file.write(data)
            return
        with gfile.GFile(self.path, "wb") as file:
            file.write(self._content + data)
        self._content += data

    def _append_locally(self, data: bytes) -> None:
        # A file that has been removed is not made again without its beginning.
        flags = os.O_WRONLY if self.size else os.O_WRONLY | os.O_CREAT
        with open(os.open(self.path, flags, mode=0o666), "wb", buffering=0) as file:
            try:
                file.seek(self.size)
                rest = memoryview(data)
                while rest:
                    rest = rest[file.write(rest) :]
            except BaseException:
                file.truncate(self.size)
                if not self.size:
                    self.path.unlink(missing_ok=True)
                raise


class Attempts:
    """Calls that can fail for a reason that lies in the log.

    A failure is one warning, and the training goes on.

    Args:
        log_dir: the folder to name in the warning.
    """

    def __init__(self, log_dir: Path | str) -> None:
        self._log_dir = log_dir
        self._has_warned = False
        self._not_before = 0.0

    def __call__(self, function: Callable, *arguments: Any) -> Any:
        """What the function returns, or None where it fails or has failed just now."""
        begin = time.monotonic()
        if begin < self._not_before:
            return None
        try:
            return function(*arguments)
        # Every file system raises errors of its own kind.
        except Exception as error:
            now = time.monotonic()
            self._not_before = now + PATIENCE * (now - begin)
            self.warn(error)
            return None

    def warn(self, error: Exception) -> None:
        """Name the folder and the error, if this is the first one."""
        if self._has_warned:
            return
        self._has_warned = True
        warnings.warn(
            f"StructureMonitor cannot read or write its log directory '{self._log_dir}': "
            f"{type(error).__name__}: {error}. The training goes on, and what cannot be "
            "written is left out of the log. Make space or the folder writable, or give "
            "another `log_dir`.",
            stacklevel=2,
        )
