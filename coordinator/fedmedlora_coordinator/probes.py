"""gRPC's health protocol on the federation listener, for probes with a certificate of this federation."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from fedmedlora_protos import wire

# isort: split
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fedmedlora_coordinator.callers import Callers
from fedmedlora_coordinator.errors import CoordinatorError, PeerRefusedError

SERVICES: Final = ("", "fedmedlora.v1.Federation")


class HealthProbes:
    """What probes are told, once it is served."""

    def __init__(self) -> None:
        """Begin as not serving."""
        self.ready = False

    def serve(self, server: grpc.aio.Server, callers: Callers) -> None:
        """Register with a server that is not started yet.

        Args:
            server: Of the federation listener.
            callers: Decides on a probe as on every caller; it need be no member of the study.
        """
        health_pb2_grpc.add_HealthServicer_to_server(_HealthService(self, callers), server)


class _HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Answers `Check`. `Watch` stays unimplemented, as the protocol allows: an open stream costs memory."""

    def __init__(self, probes: HealthProbes, callers: Callers) -> None:
        self._probes = probes
        self._callers = callers

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Say whether `/readyz` would say ok; of a service that is not here, NOT_FOUND."""
        try:
            self._callers.admit(context)
        except CoordinatorError as error:
            await self._callers.end(context, error)
        if request.service not in SERVICES:
            await self._callers.refused(context, PeerRefusedError(wire.Reason.UNSUPPORTED))
            await context.abort(grpc.StatusCode.NOT_FOUND, wire.Reason.UNSUPPORTED.value)
        status = health_pb2.HealthCheckResponse.ServingStatus
        ready = self._probes.ready
        return health_pb2.HealthCheckResponse(status=status.SERVING if ready else status.NOT_SERVING)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Refuse; clients ask with `Check` then."""
        try:
            self._callers.admit(context)
            raise PeerRefusedError(wire.Reason.UNSUPPORTED)
        except CoordinatorError as error:
            await self._callers.end(context, error)
        yield  # never reached: it makes this a stream
