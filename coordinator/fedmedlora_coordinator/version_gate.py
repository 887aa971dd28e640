"""The gate before every call: a caller whose protocol this coordinator does not speak gets no further.

It sits before both services, so no message of another version is ever read (PROTOCOL §3.3). The caller is
told the reason and, in the metadata, what this coordinator speaks; its operator and this one read the same
sentence.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

from fedmedlora_protos import versions, wire

# isort: split
import grpc  # after fedmedlora_protos, which takes TLS 1.2 away before grpc reads its environment
import grpc.aio

from fedmedlora_coordinator.peer_limits import PeerLimits
from fedmedlora_coordinator.refusal_log import RefusalLog
from fedmedlora_coordinator.status import STATUS_OF
from fedmedlora_protos.versions import Speaks, disagreement, parse_speaks
from fedmedlora_protos.wire import Reason, WireError

_LOG = logging.getLogger(__name__)
_Context = grpc.aio.ServicerContext
_Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]


class VersionGate(grpc.aio.ServerInterceptor):  # type: ignore[misc,unused-ignore]
    """Agrees with every caller on a version of the protocol, or refuses it."""

    def __init__(
        self,
        event: str,
        speaks: Speaks | None = None,
        *,
        seconds: float = 0.0,
        limits: PeerLimits | None = None,
    ) -> None:
        """Take what this coordinator speaks, and how it refuses.

        Args:
            event: Of a refusal, in the operator's log.
            speaks: What this coordinator speaks; what the software does when None.
            seconds: How long a refusal waits: meanwhile its connection cannot ask more.
            limits: Of the listener; they know an address that is refused too often.
        """
        self._seconds = seconds
        self._limits = limits
        self._speaks = speaks or versions.ours()
        self._refusals = RefusalLog(_LOG, event)

    async def intercept_service(
        self, continuation: _Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """Let the call through under the agreed version, or answer it with a refusal."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        refused, agreed = Reason.WRONG_VERSION, None
        caller: Speaks | None = None
        try:
            # R3.3.2
            caller = parse_speaks(handler_call_details.invocation_metadata or ())
            agreed = self._speaks.common(caller)
        except WireError:
            refused = Reason.MALFORMED
        if agreed is not None:
            return _answering(handler, ((versions.PROTOCOL_KEY, str(agreed)),))
        return _with(handler, _refusing(handler, self._refusal(refused, caller)))

    def _refusal(self, reason: Reason, caller: Speaks | None) -> Callable[[Any, Any], Awaitable[NoReturn]]:
        async def refuse(_request: Any, context: Any) -> NoReturn:
            said = str(reason) if caller is None else disagreement(site=caller, coordinator=self._speaks)
            self._refusals.note(_who(context), str(reason), time.monotonic(), detail=said)
            await asyncio.sleep(self._seconds)
            if self._limits is not None:
                await self._limits.slow_refused(context.peer())
            await context.abort(STATUS_OF[reason], str(reason), self._speaks.metadata())
            raise AssertionError("abort returned")  # pragma: no cover - abort always raises

        return refuse


def _who(context: Any) -> str:
    """Name the caller by its certificate, which TLS has verified; one that enrols has none yet."""
    pems = list(context.auth_context().get("x509_pem_cert", []))
    try:
        return (
            f"site '{wire.site_id_of_certificate(pems[0])}'" if len(pems) == 1 else "a caller without a name"
        )
    except WireError:
        return "a caller without a name"


def _refusing(handler: Any, refuse: Callable[[Any, Any], Awaitable[NoReturn]]) -> Any:
    """Return the refusal in the form that the handler's answers have; others wrap it as such."""

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        await refuse(request, context)
        yield  # never reached: it makes this a stream

    return stream if handler.response_streaming else refuse


def _answering(handler: Any, metadata: tuple[tuple[str, str], ...]) -> Any:
    """Return the handler, its answers headed by metadata."""

    async def one(request: Any, context: Any) -> Any:
        await context.send_initial_metadata(metadata)
        return await (handler.unary_unary or handler.stream_unary)(request, context)

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        await context.send_initial_metadata(metadata)
        async for reply in handler.unary_stream(request, context):
            yield reply

    return _with(handler, stream if handler.response_streaming else one)


def _with(handler: Any, behaviour: Any) -> Any:
    """Return a handler of the same kind and encoding that does something else."""
    if handler.response_streaming:
        make = grpc.unary_stream_rpc_method_handler
    elif handler.request_streaming:
        make = grpc.stream_unary_rpc_method_handler
    else:
        make = grpc.unary_unary_rpc_method_handler
    return make(behaviour, handler.request_deserializer, handler.response_serializer)
