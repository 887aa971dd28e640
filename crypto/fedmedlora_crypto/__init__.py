"""Pure cryptography: agreement, sealed boxes, Shamir shares, masks and secure aggregation."""
