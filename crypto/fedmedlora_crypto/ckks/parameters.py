"""Constants of the CKKS suite, and the proof in numbers that rounding gives exact integers (PROTOCOL §6.16).

Ring degree N = 8192 with a data modulus of one 60-bit prime and a second one for key generation: sums need
no multiplication, hence no level, no relinearisation and no rotation key. 120 bits of modulus at N = 8192
are far inside the 218 that the homomorphic encryption standard allows for 128-bit security.

Why integers come out exact: each slot holds a signed ring integer times 2**scale_bits. The noise of a sum of
n fresh ciphertexts is a sum of n independent terms; decryption is right as long as |sum| * scale stays under
half the modulus and the noise stays under half a quantum. Both are computed here, with the charter's n, and
a study for which they do not hold is refused.
"""

import math
from dataclasses import dataclass
from typing import Final

from fedmedlora_crypto.errors import TermsError

RING_DEGREE: Final = 8192
SLOTS: Final = RING_DEGREE // 2
COEFFICIENT_BITS: Final = (60, 60)
MODULUS: Final = 0xFFFFFFFFFFE8001
"""Prime of the ciphertexts; the larger one below serves key generation only."""
SPECIAL_MODULUS: Final = 0xFFFFFFFFFFFC001
CIPHERTEXT_BYTES: Final = 2 * RING_DEGREE * 8
"""Two polynomials of 8192 coefficients, eight bytes each."""
CHUNK_CIPHERTEXTS: Final = (1 << 20) // CIPHERTEXT_BYTES
"""Ciphertexts in a chunk of a blob: chunk i of a stream is ciphertexts 8i to 8i + 7, whole."""
CHUNK_VALUES: Final = CHUNK_CIPHERTEXTS * SLOTS
PLAINTEXT_BITS: Final = 58
"""Bits of the largest |sum| * scale; one bit of the modulus stays free above it."""
MOST_DEVIATION: Final = 0.25
"""Largest distance from an integer, in quanta, that an honest sum can show; beyond it a sum is refused."""
NOISE_SIGMAS: Final = 9.0
"""Tail of the noise that the bound covers: under 2**-60 a value."""


@dataclass(frozen=True)
class SlotTerms:
    """How ring integers of one charter stand in slots (PROTOCOL §6.16).

    Attributes:
        ring_bits: Width of the ring in bits; the sum is a signed integer below 2**(ring_bits - 1).
        n: Members of the charter: the most ciphertexts in a sum.

    Raises:
        TermsError: The noise of such a sum could reach half a quantum (the charter's fault).
    """

    ring_bits: int
    n: int

    def __post_init__(self) -> None:
        """Refuse terms under which rounding could give a wrong integer."""
        if not 2 <= self.ring_bits <= 52 or self.n < 1:
            raise TermsError("a CKKS sum has a ring of 2 to 52 bits and at least one member")
        # R6.16.3: a deviation near half a quantum would be a wrong sum that looks like a right one.
        if self.deviation_bound > MOST_DEVIATION:
            raise TermsError(
                f"CKKS noise of {self.n} sites could reach {self.deviation_bound:.2g} quanta in a ring of "
                f"{self.ring_bits} bits; the limit is {MOST_DEVIATION}"
            )

    @property
    def scale_bits(self) -> int:
        """Binary logarithm of the scale: all the head-room that the modulus leaves (R6.16.2)."""
        return PLAINTEXT_BITS - (self.ring_bits - 1)

    @property
    def deviation_bound(self) -> float:
        """Bound on the distance of a decrypted slot from its integer, in quanta.

        Noise: after the key prime is divided out, a fresh ciphertext's two polynomials carry a rounding error
        of variance 1/12 a coefficient each, the second times the ternary secret; encoding rounds once more.
        A slot is a sum of N coefficients. Double precision adds its own part.
        """
        coefficient = (2 + RING_DEGREE * 2 / 3) / 12
        noise = NOISE_SIGMAS * math.sqrt(self.n * RING_DEGREE * coefficient) * 2.0**-self.scale_bits
        steps = math.log2(RING_DEGREE) * math.sqrt(RING_DEGREE)
        return noise + 2.0 ** (self.ring_bits - 1) * 2.0**-52 * steps


@dataclass(frozen=True)
class SizePlan:
    """What one round of the CKKS suite costs a study, before it is run (PROTOCOL §6.16).

    Attributes:
        values: Integers in an encoded update.
        sites: Most sites in a sum.
        workers: Processes that encrypt.
        encrypt_seconds: Measured seconds of one ciphertext on this machine; 0 where nothing was measured.
        decrypt_seconds: The same for adding and decrypting.
    """

    values: int
    sites: int
    workers: int = 1
    encrypt_seconds: float = 0.0
    decrypt_seconds: float = 0.0

    @property
    def ciphertexts(self) -> int:
        """Ciphertexts of one upload."""
        return ciphertext_count(self.values)

    @property
    def upload_bytes(self) -> int:
        """Bytes of one upload."""
        return self.ciphertexts * CIPHERTEXT_BYTES

    @property
    def expansion(self) -> float:
        """Upload over four bytes a value."""
        return self.upload_bytes / (4 * self.values)

    @property
    def holder_bytes(self) -> int:
        """Bytes that a decrypting site fetches: every survivor's upload."""
        return self.sites * self.upload_bytes

    @property
    def memory_bytes(self) -> int:
        """Most memory that encrypting or decrypting takes beside the vector: the chunks in flight."""
        in_flight = 2 * self.workers + 1
        return (in_flight * 2 + 2 * self.sites) << 20

    @property
    def site_seconds(self) -> float:
        """Estimated seconds to encrypt one upload."""
        return self.ciphertexts * self.encrypt_seconds / self.workers

    @property
    def holder_seconds(self) -> float:
        """Estimated seconds to add and decrypt one sum, transfers apart."""
        return self.ciphertexts * self.decrypt_seconds / self.workers

    def lines(self) -> list[str]:
        """The plan for people."""
        up, fetched, memory = (
            f"{size / 1e6:.1f} MB" for size in (self.upload_bytes, self.holder_bytes, self.memory_bytes)
        )
        found = [
            f"CKKS: {self.values} values a site in {self.ciphertexts} ciphertexts",
            f"CKKS: {up} up a site and round, {self.expansion:.2f} times plain fp32",
            f"CKKS: a decrypting site fetches {fetched} a round and needs {memory} beside the vector",
        ]
        if self.encrypt_seconds:
            seal, unseal = f"{self.site_seconds:.1f} s", f"{self.holder_seconds:.1f} s"
            found.append(
                f"CKKS: about {seal} to encrypt, {unseal} to decrypt, on {self.workers} workers here"
            )
        return found


def ciphertext_count(values: int) -> int:
    """Return how many ciphertexts hold that many integers.

    Raises:
        TermsError: There is nothing to encrypt.
    """
    if values < 1:
        raise TermsError("an upload holds at least one value")
    return -(-values // SLOTS)


def upload_bytes(values: int) -> int:
    """Return the exact size of an upload of that many integers (R6.16.4)."""
    return ciphertext_count(values) * CIPHERTEXT_BYTES
