"""Durable writes: what returns is on the disk.

Contract of every function here: when it returns, the bytes survive a power cut; when it raises or the
process dies, readers see the old content or nothing, never a torn file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE = 0o600
PRIVATE_FOLDER = 0o700


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> Path:
    """Create a folder that only its owner can enter; parents too. Returns it."""
    folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE_FOLDER)
    return folder


def write_atomic(path: Path, data: bytes, *, mode: int = PRIVATE) -> None:
    """Replace the content of `path` by `data`, all or nothing.

    Args:
        path: The file; its folder exists.
        data: The new content.
        mode: Permission bits; private by default.
    """
    write_atomic_parts(path, (data,), mode=mode)


def write_atomic_parts(path: Path, parts: Iterable[bytes], *, mode: int = PRIVATE) -> None:
    """Replace the content of `path` by `parts`, all or nothing; one part at a time lies in memory."""
    temporary = path.with_name(f".{path.name}.tmp")
    with writing(temporary, mode=mode) as write:
        for part in parts:
            write(part)
    temporary.replace(path)
    sync_folder(path.parent)


@contextmanager
def writing(path: Path, *, mode: int = PRIVATE) -> Iterator[Callable[[bytes | bytearray | memoryview], None]]:
    """Open a private file to be written part by part; synced at the end, left torn by an exception."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    try:
        os.fchmod(descriptor, mode)
        yield lambda part: write_all(descriptor, part)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create_private(path: Path, data: bytes) -> None:
    """Write a new file with mode 0600; an existing file is an error (FileExistsError)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PRIVATE)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(path.parent)


def append(path: Path, data: bytes) -> None:
    """Append to a file and sync it; a crash may leave a torn last record, which readers drop."""
    new = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, PRIVATE)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        sync_folder(path.parent)


def drop_torn_line(path: Path) -> None:
    """Drop a last line that a crash left torn, so that the next one does not grow out of it."""
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole < len(data):
        write_atomic(path, data[:whole])


def write_all(descriptor: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte of `data`; the system call may take several turns."""
    view = memoryview(data)
    while view:
        written = os.write(descriptor, view)
        view = view[written:]
