"""Worker processes for simulated sites: orders out, answers back, one per core."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait

from fedmedlora_bench.simulated_sites import Answer, Setting, work

__all__ = ["Workers"]


class Workers:
    """Worker processes that hold the parties; one per core."""

    def __init__(self, setting: Setting, count: int) -> None:
        """Start them; nothing of this process is copied into them."""
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs, setting), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self.most_bytes = 0

    def advertise(self, parties: Sequence[int]) -> Iterator[Answer]:
        """Deal the parties out and let each make keys."""
        count = len(self._pipes)
        for at, pipe in enumerate(self._pipes):
            pipe.send(("advertise", (parties[at::count],)))
        yield from self._answers()

    def each(self, step: str, *arguments: object) -> Iterator[Answer]:
        """Let the parties that the last argument names do a step; answers come as they are ready."""
        for pipe in self._pipes:
            pipe.send((step, arguments))
        yield from self._answers()

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join()

    def _answers(self) -> Iterator[Answer]:
        busy = list(self._pipes)
        while busy:
            ready = wait(busy)
            for pipe in [pipe for pipe in busy if pipe in ready]:
                said = pipe.recv()
                if isinstance(said, Answer):
                    yield said
                elif isinstance(said, int):
                    self.most_bytes = max(self.most_bytes, said)
                    busy.remove(pipe)
                else:
                    raise said
