"""Every domain-separation label of the package (PROTOCOL §6.2).

R6.2.1: a label goes first into each hash and each key derivation, length-prefixed, so that no value made
for one purpose can be taken for another. The version in the label is the version of the protocol: a change
of any format or derivation changes it.
"""

VERSION = 1
_PREFIX = b"fedmedlora/v1/secagg/"

SHARE_KEY_SEED = _PREFIX + b"share-key-seed"  # seed of c_sk -> X25519 private key
MASK_KEY_SEED = _PREFIX + b"mask-key-seed"  # s_u -> X25519 private key
SHARE_KEM_SEED = _PREFIX + b"share-kem-seed"  # seed of c_sk -> ML-KEM-768 private key
MASK_KEM_SEED = _PREFIX + b"mask-kem-seed"  # s_u -> ML-KEM-768 private key
SHARE_BOX = _PREFIX + b"share-box"  # X25519(c_u, c_v) -> key of one box, one direction
PAIR_MASK = _PREFIX + b"pair-mask"  # X25519(s_u, s_v) -> mask keystream
PAIR_SECRET = _PREFIX + b"pair-secret"  # s_u -> a_uv, the hybrid part of a pair mask
PAIR_WRAP = _PREFIX + b"pair-wrap"  # a_uv wrapped for v
BOX_WRAP = _PREFIX + b"box-wrap"  # the hybrid part of a box, wrapped for its receiver
SELF_MASK = _PREFIX + b"self-mask"  # b_u -> mask keystream
SELF_SEED_COMMITMENT = _PREFIX + b"self-seed-commitment"  # H(b_u)
SHARE_COMMITMENT = _PREFIX + b"share-commitment"  # H(share)
CHUNK_ASSIGNMENT = _PREFIX + b"chunk-assignment"  # sid, ring digest -> who checks which chunk of a sum
GRAPH_CHAIN = _PREFIX + b"graph-chain"  # one step of a chain of contributions
GRAPH_SEED = _PREFIX + b"graph-seed"  # all contributions -> seed of the ring order
GRAPH_ORDER = _PREFIX + b"graph-order"  # seed -> a party's place on the ring
REFERENCE_SID = _PREFIX + b"reference-sid"  # stand-ins of run_round for what the log derives
REFERENCE_VIEW = _PREFIX + b"reference-view"
