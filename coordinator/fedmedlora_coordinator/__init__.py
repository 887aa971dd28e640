"""The coordinator's shell: gRPC service, store and runtime around the audit law (no torch)."""
