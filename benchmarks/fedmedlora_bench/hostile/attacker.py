"""The attacker's process: `python -m fedmedlora_bench.hostile.attacker PORT PAPERS SCHEDULING`.

It reads the name of an attack on standard input and begins it; an empty line ends it, and is answered by one
line of JSON: what became of the connections, how long it meant to pause between its moves and how long it
did, and the processor time that it took.

A real attacker has a machine of its own. This one shares it with those whom it attacks, so it runs only
while nobody else wants a processor (SCHED_IDLE) unless it is told otherwise: what is then measured is what
its traffic costs, and its pauses tell whether there was as much of it as planned.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from pathlib import Path

from fedmedlora_bench.hostile.attacks import Target, attack


async def _one(name: str, port: int, papers: Path, stop: asyncio.StreamReader) -> dict[str, float]:
    target = Target(port, papers)
    before, begun = _used(), time.monotonic()
    attacking = asyncio.create_task(attack(name, target))
    ending = asyncio.create_task(stop.readline())
    await asyncio.wait({attacking, ending}, return_when=asyncio.FIRST_COMPLETED)
    if attacking.done():
        attacking.result()
    attacking.cancel()
    await asyncio.gather(attacking, return_exceptions=True)
    await ending
    spent = {
        "seconds": time.monotonic() - begun,
        "cpu_seconds": _used() - before,
        "planned": target.planned,
        "paused": target.paused,
    }
    return {**target.counted, **spent}


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def _serve(port: int, papers: Path) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # connections end badly here
    lines = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(lines)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    while name := (await lines.readline()).decode().strip():
        counted = await _one(name, port, papers, lines)
        sys.stdout.write(json.dumps(counted) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Wait for orders until standard input ends."""
    os.sched_setscheduler(0, getattr(os, sys.argv[3]), os.sched_param(0))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2])))


if __name__ == "__main__":
    main()
