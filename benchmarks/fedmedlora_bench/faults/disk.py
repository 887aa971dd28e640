"""A disk that fills up, tears writes and forgets what was not synced, under the real code of every party.

The calls by which coordinator and sites change files - `os.open`, `os.write`, `os.pwrite`, `os.fsync`,
`os.replace`, `os.rename`, `os.unlink` and `Path.open` - pass through here while a simulated process runs
them. Each is a moment at which the process can be killed; a write that is hit is half done.

What a power cut takes:
    * bytes written since the file was last synced, and a new file's name until its folder was synced;
    * a renaming or deletion until the folder was synced.
What it does not take: a folder that was renamed whole, and what SQLite has committed. Its file goes through
C; an append to the log is one access before and one after, durable in between.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmedlora_bench.faults.hosts import LIFE, Host, Killed

__all__ = ["Disk"]

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class _Unsynced:
    """What a power cut would leave of one name: no file (None), a length of it, or these bytes."""

    before: bytes | int | None
    bytes_synced: bool = False


@dataclass
class Disk:
    """The disks of all hosts.

    Attributes:
        struck: Called before each access that changes something; may kill the host.
        now: The simulated time.
        syncs: Whether a sync does anything: without, a power cut takes whatever was ever written (for tests).
    """

    struck: Callable[[Host], None]
    now: Callable[[], float]
    syncs: bool = True
    _unsynced: dict[Path, _Unsynced] = field(default_factory=dict)

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Stand under the file calls of this process."""
        kept = {name: getattr(os, name) for name in _OS_CALLS}
        opened = Path.open
        for name, real in kept.items():
            setattr(os, name, getattr(self, f"_{name}")(real))
        Path.open = self._path_open(opened)  # type: ignore[method-assign] # the seam of this module
        try:
            yield
        finally:
            for name, call in kept.items():
                setattr(os, name, call)
            Path.open = opened  # type: ignore[method-assign] # back again

    def lose(self, host: Host) -> None:
        """Cut a host's power: what was not synced is gone."""
        within = LIFE.set(None)  # the process that is hit does none of this
        try:
            self._lose(host)
        finally:
            LIFE.reset(within)

    def _lose(self, host: Host) -> None:
        for path in [path for path in self._unsynced if path.is_relative_to(host.root)]:
            before = self._unsynced.pop(path).before
            if not path.parent.is_dir() or path.is_dir():
                continue
            if before is None:
                path.unlink(missing_ok=True)
            elif isinstance(before, bytes):
                path.write_bytes(before)
            elif path.exists():
                os.truncate(path, before)

    def access(self, host: Host) -> None:
        """Count one access; the schedule may end the process here.

        Raises:
            Killed: It did, or had before.
        """
        life = LIFE.get()
        if life is None:
            return
        if not life.alive:
            raise Killed
        host.accesses += 1
        self.struck(host)
        if not life.alive:
            raise Killed

    # -- the calls

    def _open(self, real: Any) -> Any:
        def call(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            host = self._host_of(path) if flags & _WRITING and dir_fd is None else None
            if host is not None:
                self.access(host)
                if flags & os.O_CREAT:
                    self._need_room(host, path)
                self._remember(Path(path), appending=bool(flags & os.O_APPEND))
            return int(real(path, flags, mode, dir_fd=dir_fd))

        return call

    def _path_open(self, real: Any) -> Any:
        def call(path: Path, mode: str = "r", *rest: Any, **named: Any) -> io.IOBase:
            host = self._host_of(path) if set(mode) & set("wax+") else None
            if host is not None:
                self.access(host)
                self._need_room(host, path)
                self._remember(path, appending="a" in mode)
            found: io.IOBase = real(path, mode, *rest, **named)
            return found

        return call

    def _write(self, real: Any) -> Any:
        def call(descriptor: int, data: Any) -> int:
            self._writing(descriptor, lambda: real(descriptor, bytes(data)[: len(data) // 2]))
            return int(real(descriptor, data))

        return call

    def _pwrite(self, real: Any) -> Any:
        def call(descriptor: int, data: Any, offset: int) -> int:
            self._writing(descriptor, lambda: real(descriptor, bytes(data)[: len(data) // 2], offset))
            return int(real(descriptor, data, offset))

        return call

    def _writing(self, descriptor: int, tear: Callable[[], object]) -> None:
        """Let a write happen or be hit; one that is hit is half done."""
        path, life = self._path_of(descriptor), LIFE.get()
        host = None if path is None else self._host_of(path)
        if host is None or path is None or life is None:
            return
        was_alive = life.alive
        try:
            self.access(host)
            self._need_room(host, path)
        except (Killed, OSError):
            if was_alive:
                tear()
            raise

    def _fsync(self, real: Any) -> Any:
        def call(descriptor: int) -> None:
            path = self._path_of(descriptor)
            host = None if path is None else self._host_of(path)
            if host is None or path is None:
                real(descriptor)
                return
            self.access(host)
            if self.syncs:
                self._synced(path)

        return call

    def _replace(self, real: Any) -> Any:
        def call(source: Any, target: Any, **named: Any) -> None:
            host = self._host_of(target)
            if host is not None:
                self.access(host)
                self._renaming(Path(source), Path(target))
            real(source, target, **named)

        return call

    _rename = _replace

    def _unlink(self, real: Any) -> Any:
        def call(path: Any, *, dir_fd: int | None = None) -> None:
            host = self._host_of(path) if dir_fd is None else None
            if host is not None:
                self.access(host)
                self._remember(Path(path), appending=False)
            real(path, dir_fd=dir_fd)

        return call

    # -- what would be lost

    def _remember(self, path: Path, *, appending: bool) -> None:
        """Note what is durable of a file that is about to change."""
        if path in self._unsynced:
            self._unsynced[path].bytes_synced = False
        elif path.is_file():
            before = path.stat().st_size if appending else path.read_bytes()
            self._unsynced[path] = _Unsynced(before)
        elif not path.is_dir():
            self._unsynced[path] = _Unsynced(None)

    def _renaming(self, source: Path, target: Path) -> None:
        if source.is_dir():
            for path in [path for path in self._unsynced if path.is_relative_to(source)]:
                del self._unsynced[path]
            return
        moved = self._unsynced.get(source)
        synced = moved is None or moved.bytes_synced
        self._remember(target, appending=False)
        if moved is None:
            self._unsynced[source] = _Unsynced(source.read_bytes())
        self._unsynced[target].bytes_synced = synced

    def _synced(self, path: Path) -> None:
        """A file's bytes, or a folder's names, are durable now."""
        if not path.is_dir():
            note = self._unsynced.get(path)
            if note is not None and note.before is not None:
                del self._unsynced[path]
            elif note is not None:
                note.bytes_synced = True
            return
        for each in [each for each in self._unsynced if each.parent == path]:
            note = self._unsynced[each]
            if note.bytes_synced or not each.exists():
                del self._unsynced[each]
            else:
                note.before = b"" if note.before is None else note.before

    def _need_room(self, host: Host, path: Any) -> None:
        if self.now() < host.full_until:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    @staticmethod
    def _host_of(path: Any) -> Host | None:
        """The host whose process runs and whose disk this is; None for whatever else."""
        life = LIFE.get()
        if life is None or not isinstance(path, str | Path):
            return None
        return life.host if f"{path}/".startswith(life.host.prefix) else None

    @staticmethod
    def _path_of(descriptor: int) -> Path | None:
        if LIFE.get() is None:
            return None
        try:
            return Path(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - no Path method before the patch
        except OSError:
            return None


_OS_CALLS = ("open", "write", "pwrite", "fsync", "replace", "rename", "unlink")
