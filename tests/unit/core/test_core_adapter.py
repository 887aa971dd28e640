"""Adapters as data: what the digest binds and what a folder keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedmedlora_core.adapter import WEIGHTS_FILE, Adapter
from fedmedlora_core.errors import ConfigError, NonFiniteError


def make_adapter() -> Adapter:
    rng = np.random.default_rng(0)
    tensors = {
        "layer.0.lora_A.weight": rng.normal(size=(2, 5)).astype(np.float32),
        "layer.0.lora_B.weight": np.zeros((5, 2), dtype=np.float32),
        "layer.1.lora_B.weight": np.zeros((3, 2), dtype=np.float32),
    }
    return Adapter(tensors, ("layer.0.lora_B.weight", "layer.1.lora_B.weight"), {"r": 2})


def test_vector_round_trip_touches_only_trainable_tensors() -> None:
    adapter = make_adapter()
    vector = np.arange(16, dtype=np.float32)
    moved = adapter.with_vector(vector)
    assert moved.vector().tolist() == vector.tolist()
    assert moved.tensors["layer.0.lora_A.weight"] is adapter.tensors["layer.0.lora_A.weight"]
    assert moved.layout_digest == adapter.layout_digest
    assert moved.digest == adapter.digest_of(vector) != adapter.digest


def test_folder_round_trip_keeps_the_digest(tmp_path: Path) -> None:
    adapter = make_adapter().with_vector(np.arange(16, dtype=np.float32))
    adapter.save(tmp_path)
    loaded = Adapter.load(tmp_path)
    assert loaded.digest == adapter.digest
    assert loaded.config == {"r": 2}


def test_one_changed_frozen_value_changes_the_digest() -> None:
    # R2.4.1
    adapter = make_adapter()
    tensors = dict(adapter.tensors)
    changed = tensors["layer.0.lora_A.weight"].copy()
    changed[0, 0] = np.nextafter(changed[0, 0], np.float32(9))
    tensors["layer.0.lora_A.weight"] = changed
    assert Adapter(tensors, adapter.trainable, adapter.config).digest != adapter.digest


def test_bad_vectors_and_folders_are_refused(tmp_path: Path) -> None:
    adapter = make_adapter()
    with pytest.raises(NonFiniteError):
        adapter.with_vector(np.full(16, np.nan, dtype=np.float32))
    with pytest.raises(ValueError, match="expected 16 values"):
        adapter.with_vector(np.zeros(15, dtype=np.float32))
    with pytest.raises(ConfigError, match="no such file"):
        Adapter.load(tmp_path / "nowhere")
    adapter.save(tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"not safetensors")
    with pytest.raises(ConfigError, match="not an adapter folder"):
        Adapter.load(tmp_path)
