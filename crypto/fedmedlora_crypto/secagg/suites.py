"""The suites: which masks are added and which keys they come from (R6.7.3)."""

from dataclasses import dataclass

from fedmedlora_crypto.hybrid import HYBRID_KEY_BYTES, WRAP_BYTES
from fedmedlora_crypto.keys import PUBLIC_KEY_BYTES
from fedmedlora_crypto.sealed import TAG_BYTES
from fedmedlora_crypto.shamir import SHARE_BYTES

PLAIN_BYTES = 2 * SHARE_BYTES  # share of b_u, share of s_u


@dataclass(frozen=True)
class Suite:
    """What differs between suites; every step and every check is the same.

    Attributes:
        name: As it stands in the charter.
        masked: Whether masks are added to the vectors.
        hybrid: Whether ML-KEM-768 stands beside X25519.
    """

    name: str
    masked: bool = True
    hybrid: bool = False

    @property
    def key_bytes(self) -> int:
        """Size of a public key."""
        return HYBRID_KEY_BYTES if self.hybrid else PUBLIC_KEY_BYTES

    @property
    def wrap_bytes(self) -> int:
        """Size of a wrapped secret; 0 where there is none."""
        return WRAP_BYTES if self.hybrid else 0

    @property
    def box_bytes(self) -> int:
        """Size of the box with the two shares of one holder."""
        return self.wrap_bytes + PLAIN_BYTES + TAG_BYTES


MASKED_SUITE = "x25519-aes256ctr/2"
HYBRID_SUITE = "xwing-aes256ctr/2"
PLAIN_SUITE = "plain/1"  # the same flow without masks: the switch of the tests that nothing leaks
CKKS_SUITE = "ckks/1"  # the same flow without masks, over uploads that are encrypted instead
SUITES = {
    suite.name: suite
    for suite in (
        Suite(MASKED_SUITE),
        Suite(HYBRID_SUITE, hybrid=True),
        Suite(PLAIN_SUITE, masked=False),
        Suite(CKKS_SUITE, masked=False),
    )
}
