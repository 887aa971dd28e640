"""The wire: the protobuf envelope and the one module that sees both protobuf and our types.

Importing this package leaves gRPC without a cipher suite that TLS 1.2 could use, so that every channel and
listener of the process speaks TLS 1.3 or nothing. grpc reads the variable once: import this package first
(whoever imports `wire.py` or the generated code does).
"""

import os

# gRPC has no setting for the lowest TLS version. The list below holds for TLS 1.2 only (TLS 1.3 has its own),
# and no certificate can serve a pre-shared-key suite: a TLS 1.2 handshake finds no common cipher.
TLS12_WITHOUT_CIPHER = "ECDHE-PSK-CHACHA20-POLY1305"

os.environ["GRPC_SSL_CIPHER_SUITES"] = TLS12_WITHOUT_CIPHER

# gRPC's core writes every refused handshake to standard error; both shells report what matters themselves.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
