"""Pure audit library: signed events, the Merkle log, the law of the protocol and the offline verifier."""
