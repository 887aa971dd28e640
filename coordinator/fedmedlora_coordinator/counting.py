"""Counts every call of both listeners: method, status, reason, bytes, seconds; decides nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Final

from fedmedlora_protos import wire

# isort: split
import grpc

from fedmedlora_coordinator import metrics

_KIND_OF: Final = {
    "Submit": "events",
    "Watch": "log",
    "PutChunk": "payloads",
    "GetChunk": "payloads",
    "Cosign": "cosignatures",
    "Enroll": "enrolment",
}
_SERVED: Final = ("/fedmedlora.v1.", "/grpc.health.v1.Health/")
_STATUS_NAMES: Final = {code.value[0]: code.name for code in grpc.StatusCode}
_REASONS: Final = frozenset(reason.value for reason in wire.Reason)
_Context = Any  # grpc.aio.ServicerContext, generic over messages


class CallCounter(grpc.aio.ServerInterceptor):
    """Wraps each call so that it is counted when it ends, however it ends."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the call's handler, counted; a method that nobody serves is counted as "other"."""
        handler = await continuation(handler_call_details)
        path = str(handler_call_details.method)
        method = path.rsplit("/", 1)[-1] if path.startswith(_SERVED) else "other"
        if handler is None:
            metrics.CALLS.labels("other", "UNIMPLEMENTED").inc()
            return None
        if method not in metrics.METHODS:
            method = "other"
        heard = _note_unread(method)
        if handler.stream_unary is not None:
            return grpc.stream_unary_rpc_method_handler(
                _counted_upload(method, handler.stream_unary, heard),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                _counted_answer(method, handler.unary_unary, heard),
                handler.request_deserializer,
                handler.response_serializer,
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                _counted_stream(method, handler.unary_stream, heard),
                handler.request_deserializer,
                handler.response_serializer,
            )
        return handler


def _note_unread(method: str) -> asyncio.Event:
    """Count the call when its task ends, unless its message came: gRPC refuses a giant one by itself.

    Returns:
        To be set once the message is there.
    """
    heard, task = asyncio.Event(), asyncio.current_task()

    def ended(_: asyncio.Task[Any]) -> None:
        if not heard.is_set():
            metrics.UNREAD.labels(method).inc()

    if task is not None:
        task.add_done_callback(ended)
    return heard


def _counted_answer(
    method: str, answer: Callable[..., Awaitable[Any]], heard: asyncio.Event
) -> Callable[..., Awaitable[Any]]:
    kind = _KIND_OF.get(method, "other")

    async def counted(request: Any, context: _Context) -> Any:
        heard.set()
        metrics.received(kind, request.ByteSize())
        return await _count(method, answer(request, context), context)

    return counted


def _counted_upload(
    method: str, answer: Callable[..., Awaitable[Any]], heard: asyncio.Event
) -> Callable[..., Awaitable[Any]]:
    """Count a call whose message its handler reads when it is its turn; one may be refused before."""
    kind = _KIND_OF.get(method, "other")

    async def counted(requests: AsyncIterator[Any], context: _Context) -> Any:
        asked = False

        async def read() -> AsyncIterator[Any]:
            nonlocal asked
            asked = True
            async for request in requests:
                heard.set()
                metrics.received(kind, request.ByteSize())
                yield request

        try:
            return await _count(method, answer(read(), context), context)
        finally:
            if not asked:
                heard.set()

    return counted


async def _count(method: str, answer: Awaitable[Any], context: _Context) -> Any:
    began, status = time.monotonic(), "UNKNOWN"
    try:
        reply = await answer
        metrics.sent(_KIND_OF.get(method, "other"), reply.ByteSize())
        status = "OK"
    except asyncio.CancelledError:
        status = "CANCELLED"
        raise
    except BaseException:
        status = _status_of(context)
        raise
    finally:
        metrics.CALL_SECONDS.labels(method).observe(time.monotonic() - began)
        metrics.CALLS.labels(method, status).inc()
    return reply


def _counted_stream(
    method: str, stream: Callable[..., AsyncIterator[Any]], heard: asyncio.Event
) -> Callable[..., AsyncIterator[Any]]:
    kind = _KIND_OF.get(method, "other")

    async def counted(request: Any, context: _Context) -> AsyncIterator[Any]:
        heard.set()
        metrics.received(kind, request.ByteSize())
        status = "CANCELLED"  # a stream has no end of its own: its caller goes, or this process
        try:
            async with aclosing(stream(request, context)) as replies:  # type: ignore[type-var]
                async for reply in replies:
                    metrics.sent(kind, reply.ByteSize())
                    yield reply
            status = "OK"
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException:
            status = _status_of(context)
            raise
        finally:
            metrics.CALLS.labels(method, status).inc()

    return counted


def _status_of(context: _Context) -> str:
    """Return the status that a call was ended with, and count the reason that went with it."""
    code, details = context.code(), context.details()
    if isinstance(details, bytes):
        details = details.decode("ascii", "replace")
    if details in _REASONS:
        metrics.REFUSED.labels(details).inc()
    number = code.value[0] if isinstance(code, grpc.StatusCode) else code
    return _STATUS_NAMES.get(number, "UNKNOWN") if number else "UNKNOWN"
