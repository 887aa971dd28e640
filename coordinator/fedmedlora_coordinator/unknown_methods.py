"""Answers calls of methods that nobody serves: gRPC would answer them without a limit (R3.1.5)."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from fedmedlora_protos import wire

# isort: split
import grpc  # after fedmedlora_protos, which takes TLS 1.2 away before grpc reads its environment
import grpc.aio

from fedmedlora_coordinator.errors import CoordinatorError, PeerRefusedError
from fedmedlora_coordinator.peer_limits import PeerLimits
from fedmedlora_coordinator.status import refuse

_UNSUPPORTED: Final = wire.Reason.UNSUPPORTED


class UnknownMethods(grpc.aio.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """Refuses what no service of a listener has: counted, and slow when there are many, as every refusal."""

    def __init__(self, limits: PeerLimits, admit: Callable[[Any], object]) -> None:
        """Take the limits of the listener, and who decides on a caller by the call's context."""
        self._limits = limits
        self._admit = admit

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the call's handler, or a refusal; as a stream of messages, none of which is read."""
        handler = await continuation(handler_call_details)
        return grpc.stream_unary_rpc_method_handler(self._refuse) if handler is None else handler

    async def _refuse(self, _requests: Any, context: Any) -> None:
        try:
            self._admit(context)
            raise PeerRefusedError(_UNSUPPORTED)
        except CoordinatorError as error:
            await self._limits.refused(context, error)
            await refuse(context, error)
