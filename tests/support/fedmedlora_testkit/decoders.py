"""Which functions decode bytes or text, found in the source; and which of these a fuzzer runs.

A function is a decoder if it is called like one and takes bytes, text, a path or a message, or if it calls a
parser of a library itself. The names catch what is written by hand, the parsers what has another name.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from fedmedlora_testkit.fuzzed import Decoder
from fedmedlora_testkit.repository import ROOT, parsed, sources

PACKAGES = ("fedmedlora_core", "crypto", "audit", "protos", "site", "coordinator")
NAME = re.compile(
    r"(parse|open|read|decode|load|unpack|from_json|from_bytes|checked)(_[a-z0-9_]+)?|[a-z_]+_from_json"
)
OUTSIDE = re.compile(r"\b(bytes|str|Path|IO|TextIO|BinaryIO|Metadata|Frame|Buffer|pb)\b")
PARSERS = {
    "json": {"load", "loads"},
    "tomllib": {"load", "loads"},
    "tarfile": {"open"},
    "biocxml": {"load", "loads"},
    "biocjson": {"load", "loads"},
    "np": {"frombuffer", "fromfile", "memmap", "load", "loadtxt"},
    "struct": {"unpack", "unpack_from", "iter_unpack"},
    "base64": {"b64decode", "urlsafe_b64decode", "standard_b64decode"},
    "zlib": {"decompress", "decompressobj"},
    "gzip": {"open", "decompress"},
    "rfc3161": {"decode_timestamp_response"},
    "x509": {
        "load_pem_x509_certificate", "load_pem_x509_certificates", "load_der_x509_certificate",
        "load_pem_x509_csr", "load_der_x509_csr",
    },
    "serialization": {"load_pem_private_key", "load_der_private_key", "load_pem_public_key"},
}  # fmt: skip
BARE = {"load_toml", "load_file", "safe_open", "urlsplit", "model_validate_json", "ParseFromString"}


@cache
def decoders() -> dict[str, Path]:
    """Every decoder of the packages: `file.py::Class.function` below the package's folder, and its file."""
    found = {}
    for path in sources():
        package, *rest = path.relative_to(ROOT).parts
        if package in PACKAGES:
            for name, function in _functions(parsed(path), ""):
                if _is_called_like_one(name, function) or _calls_a_parser(function):
                    found[f"{'/'.join(rest)}::{name}"] = path
    return found


def _functions(tree: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Functions of a module and methods of its classes; a function within another belongs to that one."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield prefix + node.name, node


def _is_called_like_one(name: str, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """A public name of a decoder, and something from outside among what it takes."""
    if any(part.startswith("_") for part in name.split(".")) or not NAME.fullmatch(function.name):
        return False
    taken = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return any(a.annotation is not None and OUTSIDE.search(ast.unparse(a.annotation)) for a in taken)


def _calls_a_parser(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    for node in ast.walk(function):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        owner, _, last = called.rpartition(".")
        if last in PARSERS.get(owner, ()) or last in BARE:
            return True
    return False


def reached(decoder: Decoder) -> set[str]:
    """Names, as `decoders` writes them, of the functions that a decoder runs on its seeds."""
    codes: set[CodeType] = set()

    def profile(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            codes.add(frame.f_code)

    for seed in list(decoder.seeds())[:5]:
        before = sys.getprofile()
        sys.setprofile(profile)
        try:
            decoder.decode(seed)
        finally:
            sys.setprofile(before)
    return {name for code in codes if (name := _name_of(code)) is not None}


def _name_of(code: CodeType) -> str | None:
    path = Path(code.co_filename)
    if not path.is_relative_to(ROOT):
        return None
    rest = path.relative_to(ROOT).parts[1:]
    return f"{'/'.join(rest)}::{code.co_qualname}"
