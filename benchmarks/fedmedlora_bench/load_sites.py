"""A process that hosts many sites: `python -m fedmedlora_bench.load_sites OUT FOLDER...`.

Every one of them is a whole agent with its own folder, keys, certificate, connection and masks; only its
trainer is the rehearsal's. What they have in common is the process.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fedmedlora_site.agent import Agent
from fedmedlora_site.client import Batch, FederationClient
from fedmedlora_site.downloads import DownloadFolder
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.tls_identity import TlsIdentity
from fedmedlora_site.training import RehearsalTrainer

__all__ = ["CountingClient"]


class CountingClient(FederationClient):
    """The site's client, which also counts bytes: of messages, without what TLS and HTTP/2 add.

    Attributes:
        counted: "sent" and "received".
    """

    def __init__(self, held: Holdings, counted: Counter[str]) -> None:
        """Dial as the agent does."""
        credentials = TlsIdentity.load(held.folder).credentials
        downloads = DownloadFolder(held.folder.downloads)
        super().__init__(held.config.site.coordinator_address, credentials, held.config.network, downloads)
        self.counted = counted

    async def watch(self, from_index: int) -> AsyncIterator[Batch]:
        """Stream the log's entries."""
        async for batch in super().watch(from_index):
            sizes = (len(batch.checkpoint), len(batch.cosigned), *map(len, batch.notes))
            self.counted["received"] += sum(sizes)
            yield batch

    async def _call(self, method: Any, request: Any, timeout: float) -> Any:
        self.counted["sent"] += request.ByteSize()
        reply = await super()._call(method, request, timeout)
        self.counted["received"] += reply.ByteSize()
        return reply


async def take_part(folders: list[Path]) -> Counter[str]:
    """Run all these sites to the end of their study."""
    counted: Counter[str] = Counter()
    agents = []
    for folder in folders:
        held = Holdings.open(folder)
        agents.append(Agent(held, RehearsalTrainer(), client=CountingClient(held, counted)))
    try:
        await asyncio.gather(*(agent.run() for agent in agents))
    finally:
        await asyncio.gather(*(agent.close() for agent in agents))
    return counted


def main() -> None:
    """Take part, and write down what it cost."""
    out, folders = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
    counted = asyncio.run(take_part(folders))
    used = resource.getrusage(resource.RUSAGE_SELF)
    cost = {"seconds": used.ru_utime + used.ru_stime, "peak_bytes": used.ru_maxrss * 1024, **counted}
    out.write_text(json.dumps({"sites": len(folders), **cost}), encoding="utf-8")


if __name__ == "__main__":
    main()
