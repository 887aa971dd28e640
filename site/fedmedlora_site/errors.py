"""Errors of the site's shell, named for whose fault they are.

Every message is one line that says what to do, and never carries the text of a note or key material. What
crosses the wire is never a message but the `reason` of a `StepRefusal` (an enum of the event schema).
"""

from __future__ import annotations

import signal


class SiteError(Exception):
    """The root of this package's errors.

    Attributes:
        exit_code: What a command that ends with this error returns: 1 the answer is no, 2 it could not run.
    """

    exit_code = 2


class StoppedError(SiteError):
    """The agent was told to end and did so in order; nothing is lost.

    Args:
        number: The signal; the exit code is 128 and it, as a shell says it.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        """Take the signal's number."""
        self.exit_code = 128 + number
        super().__init__("stopped by a signal; run the same command to go on")


class FolderError(SiteError):
    """The site's folder is missing a file, or its durable state does not fit together."""


class EnrolmentError(SiteError):
    """The invitation or the coordinator's answer to it is not acceptable; nothing was written."""

    exit_code = 1


class PinError(SiteError):
    """A member's card is malformed or differs from the pin this site already holds."""

    exit_code = 1


class AcceptanceError(SiteError):
    """This site does not accept the study; nothing was recorded."""

    exit_code = 1


class CertificateError(SiteError):
    """This site's certificate does not let it in any more, or its next one is not acceptable."""

    exit_code = 1


class TransportError(SiteError):
    """The coordinator cannot be reached or did not answer in time; trying again may help."""


class RejectedError(SiteError):
    """The coordinator answered with a refusal.

    Args:
        reason: The enum reason of the answer.
        check: Id of the law's check that refused, where the answer names one.
    """

    exit_code = 1

    def __init__(self, reason: str, check: str | None = None) -> None:
        """Say the reason and the check in one line."""
        self.reason = reason
        self.check = check
        super().__init__(f"the coordinator refused: {reason}" + (f" ({check})" if check else ""))


class TrainingError(SiteError):
    """The local training did not produce a usable update.

    Args:
        reason: "training_failed", "not_finite" or "evaluation_failed", as `step.refused` says it.
        message: One line for the operator.
    """

    exit_code = 1

    def __init__(self, reason: str, message: str) -> None:
        """Keep the reason beside the sentence."""
        self.reason = reason
        super().__init__(message)


class MemoryShortage(TrainingError):  # noqa: N818 - the machine's state, not a fault
    """The trainer's process did not get the memory that it needs; with more of it, it goes on where it was.

    Args:
        message: What was seen; one line.
    """

    def __init__(self, message: str) -> None:
        """Be a training that failed, for who does not try again."""
        super().__init__("training_failed", message)


class StepRefusal(SiteError):  # noqa: N818 - a refusal is an outcome, not a fault
    """This site will not take a step of the protocol.

    Args:
        step: The refused step, as `law.duties` names it.
        reason: Reason enum of `step.refused`.
        message: One line for the site's own journal.
    """

    exit_code = 1

    def __init__(self, step: str, reason: str, message: str) -> None:
        """Keep step and reason beside the sentence."""
        self.step = step
        self.reason = reason
        super().__init__(message)


class ForkError(SiteError):
    """The coordinator's log contradicts itself, this site's mirror or the law: the site stops.

    Args:
        reason: Reason enum of `step.refused`.
        message: One line for the site's own journal.
    """

    exit_code = 1

    def __init__(self, reason: str, message: str) -> None:
        """Keep the reason beside the sentence."""
        self.reason = reason
        super().__init__(message)
