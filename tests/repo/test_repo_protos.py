"""The committed protobuf code is what its .proto file generates."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedmedlora_testkit.repository import ROOT

PROTO = "fedmedlora_protos/v1/federation.proto"
GENERATED = ("federation_pb2.py", "federation_pb2.pyi", "federation_pb2_grpc.py", "federation_pb2_grpc.pyi")


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with code generated just now, by the command of `make protos`."""
    pytest.importorskip("grpc_tools", reason="generating protobuf code needs the dev extra (grpcio-tools)")
    work = tmp_path_factory.mktemp("protos")
    (work / PROTO).parent.mkdir(parents=True)
    shutil.copyfile(ROOT / "protos" / PROTO, work / PROTO)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    outputs = ["--python_out=.", "--grpc_python_out=.", "--mypy_out=quiet:.", "--mypy_grpc_out=quiet:."]
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", *outputs, PROTO],
        cwd=work,
        env={**os.environ, "PATH": path},
        check=True,
        capture_output=True,
    )
    return (work / PROTO).parent


@pytest.mark.parametrize("name", GENERATED)
def test_generated_code_is_fresh(regenerated: Path, name: str) -> None:
    committed = (ROOT / "protos" / PROTO).parent / name
    fresh = (regenerated / name).read_bytes()
    assert committed.read_bytes() == fresh, f"{name} is stale: run `make protos`"


def test_the_generator_is_pinned_to_the_promised_runtime() -> None:
    """Generated code refuses a runtime older than its generator, so both floors are one number."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    generator = next(line for line in pinned if line.startswith("grpcio-tools==")).partition("==")[2]
    assert f'"grpcio-tools=={generator}"' in project
    assert f'"grpcio>={generator.rpartition(".")[0]}"' in project
