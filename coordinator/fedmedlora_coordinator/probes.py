"""gRPC's health protocol on the federation listener, for probes with a certificate of this federation."""

from __future__ import annotations

from typing import Any, Final

from fedmedlora_protos import wire

# isort: split
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICES: Final = ("", "fedmedlora.v1.Federation")


class HealthProbes(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Answers `Check`. `Watch` stays unimplemented, as the protocol allows: an open stream costs memory."""

    def __init__(self) -> None:
        """Begin as not serving."""
        self.ready = False

    def serve(self, server: grpc.aio.Server) -> None:
        """Register with a server that is not started yet."""
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Say whether `/readyz` would say ok; of a service that is not here, NOT_FOUND."""
        if request.service not in SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, wire.Reason.UNSUPPORTED.value)
        status = health_pb2.HealthCheckResponse.ServingStatus
        return health_pb2.HealthCheckResponse(status=status.SERVING if self.ready else status.NOT_SERVING)

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        """Refuse; clients ask with `Check` then."""
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, wire.Reason.UNSUPPORTED.value)
