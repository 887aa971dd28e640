"""Which versions of the wire's protocol an end speaks, and how two ends agree on one (PROTOCOL §3.3).

Every call carries the caller's range and the release of its software in its metadata; the answer carries the
version that was agreed. Both are for telling old software from new before messages are misread, and decide
nothing else: what is secure in a study stands in its charter, which every member signs, so a middleman or a
coordinator that claims less than it can takes no protection away.

An end that says nothing is one of before this rule, which spoke version 1.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from fedmedlora_protos.wire import WireError

PROTOCOL_KEY: Final = "fedmedlora-protocol"
RELEASE_KEY: Final = "fedmedlora-release"
LOWEST: Final = 1
HIGHEST: Final = 1

_RANGE = re.compile(r"([1-9][0-9]{0,3})(?:-([1-9][0-9]{0,3}))?")
_RELEASE = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,31}")
Metadata = Iterable[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Speaks:
    """The versions that one end speaks, and the release that it is.

    Args:
        lowest: Lowest version of the protocol.
        highest: Highest version, not below the lowest.
        release: Release of the software, such as "0.1.0"; for people.
    """

    lowest: int
    highest: int
    release: str

    @property
    def spoken(self) -> str:
        """The versions, as an operator reads them."""
        return f"{self.lowest}" if self.lowest == self.highest else f"{self.lowest} to {self.highest}"

    def __str__(self) -> str:
        """Say versions and release."""
        return f"protocol {self.spoken} (fedmedlora {self.release})"

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what a call of this end carries."""
        return ((PROTOCOL_KEY, f"{self.lowest}-{self.highest}"), (RELEASE_KEY, self.release))

    def common(self, other: "Speaks") -> int | None:
        """Return the highest version that both speak, or None."""
        # R3.3.1
        highest = min(self.highest, other.highest)
        return highest if highest >= max(self.lowest, other.lowest) else None


SILENT: Final = Speaks(1, 1, "before 0.1")


@cache
def ours() -> Speaks:
    """Return what this software speaks."""
    return Speaks(LOWEST, HIGHEST, release())


def release() -> str:
    """Return the release of this software; a source tree that is not installed has none."""
    try:
        return version("fedmedlora")
    except PackageNotFoundError:
        return "0+source"


def parse_speaks(metadata: Metadata) -> Speaks:
    """Read what the other end says of itself in the metadata of a call.

    Raises:
        WireError: It says it twice, or not as it is to be said.
    """
    found: dict[str, str] = {}
    for key, value in metadata:
        if key not in (PROTOCOL_KEY, RELEASE_KEY):
            continue
        if key in found or not isinstance(value, str):
            raise WireError(key)
        found[key] = value
    if PROTOCOL_KEY not in found:
        return SILENT
    span = _RANGE.fullmatch(found[PROTOCOL_KEY])
    told = found.get(RELEASE_KEY, "of unknown release")
    if span is None:
        raise WireError(PROTOCOL_KEY)
    if RELEASE_KEY in found and not _RELEASE.fullmatch(told):
        raise WireError(RELEASE_KEY)
    lowest, highest = int(span[1]), int(span[2] or span[1])
    if lowest > highest:
        raise WireError(PROTOCOL_KEY)
    return Speaks(lowest, highest, told)


def disagreement(*, site: Speaks, coordinator: Speaks) -> str:
    """Say in one line that two ends have no version in common, and which one to upgrade."""
    older = "coordinator" if coordinator.highest < site.lowest else "site"
    return (
        f"the site speaks {site}, the coordinator {coordinator}; "
        f"they have none in common: upgrade the {older}"
    )
