"""Errors of the coordinator, named for whose fault they are (see `status.py` for what crosses the wire)."""

import datetime as dt
from typing import Final

from fedmedlora_protos.wire import Reason

NOTHING_LOST: Final = "nothing that was acknowledged is lost: start the coordinator again once that is mended"


class CoordinatorError(Exception):
    """The root of this package's errors; every message is one line for the operator."""


class PeerRefusedError(CoordinatorError):
    """The peer's message is refused; `reason` is all that the peer is told.

    Args:
        reason: What crosses the wire.
        check: Id of the broken rule when the law refused, else None.
        detail: One line for the coordinator's own log; never the peer's text.
    """

    def __init__(self, reason: Reason, *, check: str | None = None, detail: str = "") -> None:
        """Keep the reason beside the line for the operator."""
        self.reason = reason
        self.check = check
        super().__init__(f"{reason}: {detail}" if detail else str(reason))


class StoreError(CoordinatorError):
    """The durable state is damaged, forked or rolled back; the coordinator stops rather than go on."""


class UnservableStoreError(StoreError):
    """Going on would fork or spoil the log, now and at every later start: a person has to decide (exit 1)."""

    exit_code = 1


class StoreHeldError(StoreError):
    """Another process writes the log - or this one's last session, which the server believes to be alive."""


class StoreUnreachableError(StoreError):
    """Nobody answers where the store lies; what is stored is not in doubt, only out of reach for now."""


def disk_error(place: str, exc: OSError) -> StoreError:
    """Say that a disk refused a write."""
    return StoreError(f"{place}: cannot be written ({exc.strerror}); {NOTHING_LOST}")


class AuthorityExpiredError(CoordinatorError):
    """The federation's certificate authority is past its end: no certificate of it is worth anything.

    Args:
        ends: When it ended.
    """

    def __init__(self, ends: dt.datetime) -> None:
        """Say when, and what goes on from here."""
        super().__init__(
            f"the federation's CA expired on {ends:%Y-%m-%d %H:%M} UTC; go on in a new coordinator's folder "
            'with `coordinator init` and `study new --continues` (docs/OPERATIONS.md, "Certificates")'
        )


class TsaError(CoordinatorError):
    """The time-stamping authority did not answer, or with something that is no stamp (its fault)."""


class StateError(CoordinatorError):
    """A step was asked for out of order (our mistake)."""


class ForbiddenError(StateError):
    """The law forbids what the coordinator was about to say.

    Args:
        check: Id of the rule.
        detail: One line for the operator.
    """

    def __init__(self, check: str, detail: str) -> None:
        """Keep the id of the rule beside the line."""
        self.check = check
        super().__init__(detail)


class RoundError(CoordinatorError):
    """The round cannot be completed from what the sites handed in; it is aborted with `reason`.

    Args:
        reason: The reason of the `round.aborted` event.
        detail: One line for the operator.
    """

    def __init__(self, reason: str, detail: str) -> None:
        """Keep the reason beside the sentence."""
        self.reason = reason
        super().__init__(detail)


class ThinCountsError(RoundError):
    """Validation counts would be summed over other sites than they may be; another attempt may do better."""

    def __init__(self, step: str) -> None:
        """Name the step whose list would be too thin."""
        super().__init__("below_threshold", f"the sites left at '{step}' are not those that counts are over")
