"""A disk that fails once: every durable write of a site can be made to report an error.

Every function of `durable` that writes is wrapped wherever a module of the site has imported it, and so is
the saving of an adapter. A write point is the outermost of them at work, so one that is added later counts by
itself. The disk may refuse before anything is written, after everything is, or in the middle of an append.
"""

from __future__ import annotations

import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from fedmedlora_core.adapter import Adapter
from fedmedlora_site import durable

NOT_PERSISTED: Final = "not persisted"
PERSISTED: Final = "persisted but error"
TORN: Final = "torn"
_FUNCTIONS: Final = ("write_atomic", "write_atomic_parts", "create_private", "append", "sync_folder")
_CHANGING: Final = re.compile(r"[0-9a-f]{16,}|\d+")


@dataclass(frozen=True)
class WritePoint:
    """One durable write of a run.

    Args:
        phase: The part of the run that it belongs to.
        what: The function and the file, without numbers and digests.
        nth: The how many-th of its kind in the phase, from 1.
    """

    phase: int
    what: str
    nth: int


class DiskError(OSError):
    """What a full or failing disk says."""


class Disk:
    """The disk under one site's folder.

    Args:
        patch: Undoes the wrapping at the end of the test.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.points: list[WritePoint] = []
        self._counts: Counter[tuple[int, str]] = Counter()
        self.plan: dict[WritePoint, str] = {}  # failures that have not happened yet
        self._root = Path("/nowhere")
        self._phase: Callable[[], int] = lambda: 0
        self._lock = threading.Lock()
        self._depth = threading.local()
        modules = [m for name, m in sys.modules.items() if name.startswith("fedmedlora_site")]
        for name in _FUNCTIONS:
            original = getattr(durable, name)
            self._replace(patch, modules, name, original, self._wrapped(name, original))
        self._replace(patch, modules, "writing", durable.writing, self._wrapped_writing(durable.writing))
        saved = self._wrapped("Adapter.save", lambda path, adapter: real_save(adapter, path))
        real_save = Adapter.save
        patch.setattr(Adapter, "save", lambda adapter, folder: saved(folder, adapter))

    def watch(
        self, root: Path, phase: Callable[[], int], plan: Mapping[WritePoint, str] | None = None
    ) -> None:
        """Count the writes under a folder from now on.

        Args:
            root: The folder.
            phase: Says which part of the run it is; the count of each kind begins anew with it.
            plan: Where to fail once, and how.
        """
        self._root, self._phase, self.plan = root, phase, dict(plan or {})
        self._counts.clear()
        self.points = []

    @staticmethod
    def _replace(patch: pytest.MonkeyPatch, modules: list[Any], name: str, original: Any, new: Any) -> None:
        for module in modules:
            if getattr(module, name, None) is original:
                patch.setattr(module, name, new)

    def _wrapped(self, name: str, write: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(path: Path, *rest: Any, **named: Any) -> Any:
            with self._counted(name, path, lambda: _tear(path, *rest)):
                return write(path, *rest, **named)

        return wrapped

    def _wrapped_writing(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @contextmanager
        def wrapped(path: Path, **named: Any) -> Iterator[Any]:
            with self._counted("writing", path, lambda: None), original(path, **named) as write:
                yield write

        return wrapped

    @contextmanager
    def _counted(self, name: str, path: Path, tear: Callable[[], None]) -> Iterator[None]:
        if getattr(self._depth, "within", False) or not Path(path).is_relative_to(self._root):
            yield
            return
        what = f"{name} {_CHANGING.sub('#', str(Path(path).relative_to(self._root)))}"
        how = self.plan.pop(self._next(what), None)
        if how is not None and how != PERSISTED:
            if how == TORN:
                tear()
            raise DiskError(f"{what}: {how}")
        self._depth.within = True
        try:
            yield
        finally:
            self._depth.within = False
        if how is not None:
            raise DiskError(f"{what}: {how}")

    def _next(self, what: str) -> WritePoint:
        with self._lock:
            phase = self._phase()
            self._counts[phase, what] += 1
            point = WritePoint(phase, what, self._counts[phase, what])
            self.points.append(point)
            return point


def _tear(path: Path, data: bytes = b"", *_: Any) -> None:
    """Leave half of an append on the disk."""
    with path.open("ab") as file:
        file.write(data[: len(data) // 2])
