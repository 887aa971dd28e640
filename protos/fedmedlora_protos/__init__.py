"""The wire: the protobuf envelope and the one module that sees both protobuf and our types."""
