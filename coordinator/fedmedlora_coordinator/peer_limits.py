"""Limits per peer inside its connections: calls of a site, its connections, enrolment calls of an address.

A peer over a limit gets RESOURCE_EXHAUSTED with an enum reason, and nothing more is read from its connection
until it is within the limit again: what it goes on sending waits at its own end and costs nobody anything.
The answer to what has come already waits too.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from fedmedlora_protos import wire

# isort: split
import grpc

from fedmedlora_coordinator import metrics
from fedmedlora_coordinator.allowance import Allowances
from fedmedlora_coordinator.door import Connection, Door, DoorLimits
from fedmedlora_coordinator.errors import CoordinatorError, PeerRefusedError
from fedmedlora_coordinator.peer_settings import Peers
from fedmedlora_coordinator.refusal_log import RefusalLog
from fedmedlora_coordinator.status import status_of
from fedmedlora_protos.wire import Reason

_LOG = logging.getLogger(__name__)
CALL_BURST_SECONDS: Final = 2.0
ENROLMENT_BURST: Final = 32
REFUSALS_PER_SECOND: Final = 20.0  # of one site; by address where the certificate does not get in
LEAST_PENALTY_SECONDS: Final = 0.25
REFUSAL_SECONDS: Final = 2.0  # until one who is over a limit hears of it


def federation_door(peers: Peers) -> Door:
    """Make the door of the federation listener."""
    limits = DoorLimits(
        connections=peers.connections,
        per_address=peers.connections_per_address,
        new_per_second=peers.new_connections_per_second,
        hello_seconds=peers.handshake_seconds,
        shared=frozenset(peers.shared_addresses),
    )
    return Door("call_refused", limits)


def enrolment_door(peers: Peers) -> Door:
    """Make the door of the enrolment listener, which is open to the world."""
    limits = DoorLimits(
        connections=peers.connections // 4,
        per_address=peers.enrolment_connections_per_address,
        new_per_second=peers.enrolment_new_connections_per_second,
        hello_seconds=peers.handshake_seconds,
        shared=frozenset(peers.shared_addresses),
        seconds=peers.enrolment_seconds,
    )
    return Door("enrolment_refused", limits)


class PeerLimits:
    """Judges each call of one listener."""

    def __init__(self, door: Door, peers: Peers, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the door that the calls came through, the limits, and monotonic seconds."""
        self._door = door
        self._peers = peers
        self._clock = clock
        self._refusals = RefusalLog(_LOG, door.event)
        self._calls = Allowances(peers.calls_per_second, CALL_BURST_SECONDS * peers.calls_per_second)
        self._refused = Allowances(REFUSALS_PER_SECOND, CALL_BURST_SECONDS * REFUSALS_PER_SECOND)
        burst = ENROLMENT_BURST * peers.enrolment_calls_per_second
        self._enrolments = Allowances(peers.enrolment_calls_per_second, burst)

    def admit(self, site: str, peer: str) -> None:
        """Admit one call of a site.

        Args:
            site: Whose certificate it is.
            peer: What gRPC calls the other end.

        Raises:
            PeerRefusedError: too_fast or too_many.
        """
        connection = self._door.connection(peer)
        if connection is not None and connection.site != site:
            if self._door.connections_of(site) >= self._peers.connections_per_site:
                self._door.slow(connection, 1.0)
                self._refuse(site, "connections_per_site", Reason.TOO_MANY)
            connection.site = site
        self._take(self._calls, site, "calls_per_second", connection)

    def admit_refused(self, peer: str) -> None:
        """Admit the refusal of one call; a site's allowance is not for those who only bear its name.

        Raises:
            PeerRefusedError: too_fast; the connection is not read for a while.
        """
        connection, address = self._caller(peer)
        if connection is not None:
            connection.site = None  # it may have been the site's until its certificate ended
        self._take(self._refused, address, "refusals_per_second", connection)

    async def slow_refused(self, peer: str) -> None:
        """Let a refusal wait if its address has had many; for who is refused before anybody asks its name."""
        connection, address = self._caller(peer)
        wait = self._refused.take(address, self._clock())
        if wait is not None:
            self._slow(connection, address, "refusals_per_second", wait)
            await asyncio.sleep(REFUSAL_SECONDS)

    def _caller(self, peer: str) -> tuple[Connection | None, str]:
        """Return the connection and the address that a call came by."""
        connection = self._door.connection(peer)
        return connection, peer if connection is None else connection.address

    def admit_enrolment(self, peer: str) -> None:
        """Admit one enrolment call of an address.

        Raises:
            PeerRefusedError: too_fast.
        """
        connection, address = self._caller(peer)
        if address not in self._peers.shared_addresses:
            self._take(self._enrolments, address, "enrolment_calls_per_second", connection)

    async def refused(
        self, context: "grpc.aio.ServicerContext[object, object]", error: CoordinatorError | wire.WireError
    ) -> None:
        """Tell the operator of a refusal, and let it wait if there were too many; who asks ends the call."""
        self._note_refusal(context, error)
        await self._wait_out(context, error)

    def _note_refusal(
        self, context: "grpc.aio.ServicerContext[object, object]", error: CoordinatorError | wire.WireError
    ) -> None:
        """Say in the operator's log that a call was refused, for one peer and reason once a minute."""
        if isinstance(error, PeerRefusedError) and error.reason is Reason.TOO_FAST:
            return  # said where it was refused, with the name of the limit
        connection = self._door.connection(context.peer())
        peer = context.peer() if connection is None else connection.site or connection.address
        _, reason, _ = status_of(error)
        self._refusals.note(peer, reason, self._clock(), detail=str(error))

    async def _wait_out(
        self, context: "grpc.aio.ServicerContext[object, object]", error: CoordinatorError | wire.WireError
    ) -> None:
        """Let the refusal of one who is over a limit wait.

        Meanwhile the call is one of the few that its connection may have; gRPC drops those beyond unheard.
        A site's refusals have an allowance too: what it is refused again and again is of no use to anybody.
        """
        over = isinstance(error, PeerRefusedError) and error.reason in (Reason.TOO_FAST, Reason.TOO_MANY)
        connection = self._door.connection(context.peer())
        if not over and connection is not None and connection.site is not None:
            wait = self._refused.take(connection.site, self._clock())
            if wait is not None:
                self._slow(connection, connection.site, "refusals_per_second", wait)
                over = True
        if over:
            await asyncio.sleep(REFUSAL_SECONDS)

    def _take(self, allowances: Allowances, peer: str, limit: str, connection: Connection | None) -> None:
        wait = allowances.take(peer, self._clock())
        if wait is None:
            return
        self._slow(connection, peer, limit, wait)
        raise PeerRefusedError(Reason.TOO_FAST, detail=limit)

    def _slow(self, connection: Connection | None, peer: str, limit: str, wait: float) -> None:
        if connection is not None:
            self._door.slow(connection, max(wait, LEAST_PENALTY_SECONDS))
        self._refusals.note(peer, limit, self._clock())
        metrics.limited("rate")

    def _refuse(self, peer: str, limit: str, reason: Reason) -> None:
        self._refusals.note(peer, limit, self._clock())
        metrics.limited("connections")
        raise PeerRefusedError(reason, detail=limit)
