"""Which gRPC status answers which refusal: one table; only the reason crosses the wire (PROTOCOL §3)."""

from typing import Final, NoReturn

import grpc

from fedmedlora_coordinator.errors import PeerRefusedError, StoreError
from fedmedlora_protos.wire import CHECK_METADATA_KEY, Reason, WireError

STATUS_OF: Final[dict[Reason, grpc.StatusCode]] = {
    Reason.MALFORMED: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.NOT_A_MEMBER: grpc.StatusCode.PERMISSION_DENIED,
    Reason.WRONG_ACTOR: grpc.StatusCode.PERMISSION_DENIED,
    Reason.BAD_SIGNATURE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.BAD_EVENT: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.LAW_REFUSED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.BLOB_MISSING: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.BAD_PAYLOAD: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.BAD_CHUNK: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.UNKNOWN_BLOB: grpc.StatusCode.NOT_FOUND,
    Reason.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.TOO_MANY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.TOO_FAST: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.AHEAD_OF_LOG: grpc.StatusCode.OUT_OF_RANGE,
    Reason.WRONG_HEAD: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.BAD_TOKEN: grpc.StatusCode.PERMISSION_DENIED,
    Reason.EXPIRED_TOKEN: grpc.StatusCode.PERMISSION_DENIED,
    Reason.USED_TOKEN: grpc.StatusCode.PERMISSION_DENIED,
    Reason.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.WEAK_KEY: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.BAD_PROOF: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.OTHER_EVENT_KEY: grpc.StatusCode.PERMISSION_DENIED,
    Reason.CERTIFICATE_UNKNOWN: grpc.StatusCode.PERMISSION_DENIED,
    Reason.CERTIFICATE_RENEWED: grpc.StatusCode.PERMISSION_DENIED,
    Reason.CERTIFICATE_EXPIRED: grpc.StatusCode.PERMISSION_DENIED,
    Reason.CERTIFICATE_REVOKED: grpc.StatusCode.PERMISSION_DENIED,
    Reason.UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    Reason.WRONG_VERSION: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.STOPPING: grpc.StatusCode.UNAVAILABLE,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
}


def status_of(error: Exception) -> tuple[grpc.StatusCode, Reason, str | None]:
    """Map an error to status, reason and, for a refusal by the law, the id of the broken rule."""
    if isinstance(error, PeerRefusedError):
        return STATUS_OF[error.reason], error.reason, error.check
    if isinstance(error, StoreError):  # the process ends; a restart answers the same call from its log
        return grpc.StatusCode.UNAVAILABLE, Reason.STOPPING, None
    if isinstance(error, WireError):
        return grpc.StatusCode.INVALID_ARGUMENT, Reason.MALFORMED, None
    return grpc.StatusCode.INTERNAL, Reason.INTERNAL, None


async def refuse(context: "grpc.aio.ServicerContext[object, object]", error: Exception) -> NoReturn:
    """End a call with the status of `error`; the message of the error stays here."""
    code, reason, check = status_of(error)
    metadata = ((CHECK_METADATA_KEY, check),) if check else ()
    await context.abort(code, str(reason), metadata)
    raise AssertionError("abort returned")  # pragma: no cover - abort always raises
