"""Errors of the core library, named for whose fault they are.

Every message is one line, says what was expected and what was found, and never carries the text of a
note or key material: it may be shown to an operator and written to a log.
"""

from __future__ import annotations


class CoreError(Exception):
    """The root of this library's errors."""


class ConfigError(CoreError):
    """A file or value that the operator wrote is wrong."""


class DataError(CoreError):
    """An input document is malformed; the message names file and line, never the text.

    Args:
        message: What is wrong, without any of the document's text.
        file: Name of the file, as the operator knows it.
        line: Line number from 1, or None when the whole file is meant.
    """

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None) -> None:
        """Prefix the message with file and line."""
        self.file = file
        self.line = line
        place = "" if file is None else (f"{file}: " if line is None else f"{file}:{line}: ")
        super().__init__(f"{place}{message}")


class PolicyRefusal(CoreError):  # noqa: N818 - a refusal is an outcome, not a fault
    """This site will not take part; `reason` is the enum that may cross the wire.

    Args:
        reason: Reason code, lower-case words joined by underscores.
        message: One line for the operator of this site.
    """

    def __init__(self, reason: str, message: str) -> None:
        """Keep the code beside the sentence."""
        self.reason = reason
        super().__init__(message)


class NonFiniteError(CoreError):
    """A vector holds NaN or infinity; nothing was encoded."""


class SelfTestError(CoreError):
    """The mechanism of differential privacy does not do here what it must; nothing was trained."""


class CodecError(CoreError):
    """A vector does not fit the study's encoding (length, range or weight)."""


class AggregateBoundError(CoreError):
    """A published aggregate lies outside what clipped updates can give.

    Args:
        bound: "weight_sum", "value" or "norm".
        message: One line for the operator.
    """

    def __init__(self, bound: str, message: str) -> None:
        """Keep the name of the bound beside the sentence."""
        self.bound = bound
        super().__init__(message)


class VoteError(CoreError):
    """Opened votes are not one vote per voter."""
