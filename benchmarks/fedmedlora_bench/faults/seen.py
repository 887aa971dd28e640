"""What anybody was told or handed over during a run: the ears of the simulation, and what they heard."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from fedmedlora_bench.faults.schedule import Operation
from fedmedlora_bench.faults.wire import Link, SimulatedClient
from fedmedlora_protos.v1 import federation_pb2 as pb
from fedmedlora_site.client import Batch
from fedmedlora_site.config import NetworkSection
from fedmedlora_site.downloads import DownloadFolder

__all__ = ["HearingClient", "HearingLink", "Seen"]


@dataclass
class Seen:
    """What a run showed; the invariants judge it.

    Attributes:
        receipts: Events that a site got a receipt for: (site, note, index).
        heads: Signed heads that a site was shown.
        payloads: Digest to (index of the sender, bytes): all that the coordinator was ever given.
        families: Session to (base, purpose), in any history.
        forks: Sites that found the log forked.
        happened: The operations that took place.
        stuck: Why the study did not end; empty if it did.
    """

    receipts: list[tuple[str, bytes, int]] = field(default_factory=list)
    heads: set[bytes] = field(default_factory=set)
    payloads: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    families: dict[str, tuple[str, str]] = field(default_factory=dict)
    forks: list[str] = field(default_factory=list)
    happened: list[Operation] = field(default_factory=list)
    stuck: str = ""


class HearingLink(Link):
    """A link that keeps what passes.

    Attributes:
        seen: Where it is kept.
        number: Index of the site.
    """

    seen: Seen
    number: int

    async def _serve(self, method: str, request: Any) -> Any:
        if isinstance(request, pb.PutChunkRequest) and request.data and self.host().is_up:
            self.seen.payloads[request.digest] = (self.number, bytes(request.data))
        return await super()._serve(method, request)

    async def call(self, method: str, request: Any, timeout: float) -> Any:
        """Make one call, and note a receipt that reached its site."""
        answer = await super().call(method, request, timeout)
        if isinstance(answer, pb.SubmitResponse):
            self.seen.receipts.append((self.site.name, bytes(request.note), int(answer.index)))
        return answer


class HearingClient(SimulatedClient):
    """A client that notes which heads its site is shown."""

    def __init__(self, link: HearingLink, network: NetworkSection, downloads: DownloadFolder) -> None:
        """Take the line."""
        super().__init__(link, network, downloads)
        self._seen = link.seen

    async def watch(self, from_index: int) -> AsyncIterator[Batch]:
        """Stream the log's entries."""
        async for batch in super().watch(from_index):
            self._seen.heads.add(batch.checkpoint)
            yield batch
