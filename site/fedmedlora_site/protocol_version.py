"""Which protocol this site and its coordinator speak, and what a site says when they have none in common."""

from __future__ import annotations

from collections.abc import Iterable

from fedmedlora_protos import versions
from fedmedlora_protos.versions import Speaks, disagreement, parse_speaks
from fedmedlora_protos.wire import Reason, WireError
from fedmedlora_site.errors import RejectedError

Metadata = Iterable[tuple[str, str | bytes]] | None


class VersionError(RejectedError):
    """Site and coordinator have no version of the protocol in common; trying again does not help.

    Args:
        sentence: One line that names both and says which one to upgrade.
    """

    def __init__(self, sentence: str) -> None:
        """Keep the sentence in the place of the bare reason."""
        super().__init__(Reason.WRONG_VERSION)
        self.args = (sentence,)


def refused_for_version(site: Speaks, trailing: Metadata) -> VersionError:
    """Make the error for a refusal whose metadata says what the coordinator speaks."""
    try:
        return VersionError(disagreement(site=site, coordinator=parse_speaks(trailing or ())))
    except WireError:
        return VersionError(f"the coordinator does not speak {site}, and not in words what it does")


def check_agreed(site: Speaks, initial: Metadata) -> None:
    """Check the version that the coordinator's answer was agreed under (R3.3.3).

    Args:
        site: What this site speaks.
        initial: Metadata at the head of the answer; without a version it is a coordinator of before the rule.

    Raises:
        VersionError: This site does not speak it.
    """
    try:
        agreed = parse_speaks(initial or ())
    except WireError:
        raise VersionError("the coordinator answered with a malformed protocol version") from None
    # R3.3.3
    if agreed.lowest != agreed.highest or site.common(agreed) is None:
        raise VersionError(disagreement(site=site, coordinator=agreed))


def ours() -> Speaks:
    """Return what this site's software speaks."""
    return versions.ours()
