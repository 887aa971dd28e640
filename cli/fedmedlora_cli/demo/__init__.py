"""The demo: a whole study on one machine with real processes, mutual TLS, masks, log and verification."""
