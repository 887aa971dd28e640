"""`bench cost`: counts of the published models, bytes against whole models, and plain loops that are fair."""

from __future__ import annotations

import functools
import json
import socket
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_bench.cost.estimates import Workload, inference_bytes, traffic, training_bytes
from fedmedlora_bench.cost.measured import measure
from fedmedlora_bench.cost.plain import compare_decoding, compare_steps
from fedmedlora_bench.cost.private import compare_private_steps
from fedmedlora_bench.cost.rows import EXEMPT, cost_grids, meets
from fedmedlora_bench.cost.run import LEAST_REDUCTION, run_cost
from fedmedlora_bench.cost.shapes import ModelShape, shape_of
from fedmedlora_bench.cost.subjects import notes_for, subject
from fedmedlora_bench.cost.wire import Relay
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.learning.base import load_base
from fedmedlora_core.learning.generative import GenerativeLearner
from fedmedlora_core.learning.lora import read_vector
from fedmedlora_core.profile import Profile
from fedmedlora_core.shipped import shipped_base
from fedmedlora_testkit.repository import ROOT

NAMED = ("bio-clinicalbert", "deepseek-r1-distill-llama-8b", "llama-3.1-8b", "llama-3.2-1b", "qwen3-4b")


@functools.cache
def named_shape(name: str) -> ModelShape:
    """The counts of a named profile's model: made once, as a model without weights takes a second."""
    return shape_of(Profile.load(name))


@pytest.mark.parametrize(
    ("name", "parameters", "trained"),
    [
        ("llama-3.1-8b", 8_030_261_248, 41_943_040),
        ("deepseek-r1-distill-llama-8b", 8_030_261_248, 41_943_040),
        ("llama-3.2-1b", 1_235_814_400, 11_272_192),
        ("qwen3-4b", 4_022_468_096, 33_030_144),
        ("bio-clinicalbert", 107_719_680, 589_824 + 41 * 769),  # with the new output layer, which travels
    ],
)
def test_counts_are_those_of_the_published_models(name: str, parameters: int, trained: int) -> None:
    shape = named_shape(name)
    assert (shape.parameters, shape.trained) == (parameters, trained)


def test_counts_of_the_shipped_model_are_those_of_its_weights() -> None:
    config = json.loads((shipped_base() / "config.json").read_text())
    profile = Profile.load("tiny")
    shape = shape_of(profile, config)
    assert shape.parameters == load_base(shipped_base(), kind="causal").model.num_parameters()
    learner, _ = subject("tiny", shipped_base())
    assert shape.trained == read_vector(learner.model).size


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("sites", [3, 4, 10])
def test_every_named_profile_sends_a_small_part_of_its_model(name: str, sites: int) -> None:
    profile = Profile.load(name)
    found = traffic(named_shape(name), profile, sites=sites)
    assert found["up_reduction"] >= LEAST_REDUCTION
    assert found["down_reduction"] >= LEAST_REDUCTION
    assert found["down_with_check_reduction"] < found["down_reduction"]
    assert found["up_bytes"] >= 3 * named_shape(name).trained


def test_an_8b_model_fits_where_the_paper_says_and_not_without_four_bits() -> None:
    profile = Profile.load("llama-3.1-8b")
    shape, load = shape_of(profile), Workload(4, 800)
    assert 8e9 < training_bytes(shape, profile, load) < 16e9
    wide = profile.override(training__quantisation=None)
    assert training_bytes(shape, wide, load) > 16e9
    kept = profile.override(training__gradient_checkpointing=False)
    assert training_bytes(shape, kept, load) > 1.5 * training_bytes(shape, profile, load)
    one, many = (inference_bytes(shape, profile, Workload(rows, 800)) for rows in (1, 96))
    assert one < many


def test_both_loops_compute_the_same_loss_on_the_same_batches() -> None:
    _, terms = subject("tiny", shipped_base())
    found = compare_steps(
        lambda: subject("tiny", shipped_base())[0],
        lambda learner: learner.samples(notes_for(8), ["ner"]),
        replace(terms, batch_size=4),
        steps=2,
    )
    assert found["loss_difference"] < 1e-4
    assert found["our_seconds"] > 0
    assert found["bare_seconds"] > 0


def test_a_private_step_is_timed_beside_a_plain_one() -> None:
    _, terms = subject("tiny", shipped_base())
    found = compare_private_steps(
        lambda: subject("tiny", shipped_base())[0],
        lambda learner: learner.samples(notes_for(8), ["ner"]),
        replace(terms, batch_size=4),
        steps=2,
    )
    assert found["trained"] == 327_680
    assert found["private_seconds"] > 0
    assert found["throughput_ratio"] > 0


def test_both_ways_of_decoding_write_the_same_answers() -> None:
    learner, _ = subject("tiny", shipped_base())
    assert isinstance(learner, GenerativeLearner)
    prompts = [s.ids[: s.answer_start] for s in learner.samples(notes_for(6), ["ner"])][:6]
    found = compare_decoding(learner, prompts, tokens=5)
    assert found["tokens"] == 30
    assert found["equal_answers"] == 1


def test_a_measured_peak_is_above_the_weights() -> None:
    found = measure("tiny", shipped_base(), rows=2, steps=2)
    assert found.device == "cpu"
    assert found.training_bytes > 4 * 984_192
    assert found.step_seconds > 0
    with pytest.raises(RuntimeError, match="tiny: "):
        measure("tiny", Path("nowhere"), rows=2)


def test_the_relay_counts_what_passes_each_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                while data := connection.recv(4096):
                    connection.sendall(data * 2)

        thread = threading.Thread(target=answer)
        thread.start()
        relay = Relay("127.0.0.1", server.getsockname()[1])
        try:
            port, counter = relay.open()
            with socket.create_connection(("127.0.0.1", port), timeout=30) as site:
                site.sendall(b"x" * 1000)
                got = b""
                while len(got) < 2000:
                    got += site.recv(4096)
                site.shutdown(socket.SHUT_WR)
            thread.join(timeout=30)
        finally:
            relay.close()
        assert (counter.up, counter.down) == (1000, 2000)


def result() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "docs/results/cost.json").read_text())
    return found


def test_bounds_are_judged_by_named_profiles_step_and_decoding() -> None:
    good = run_cost(sites=4, measured=(), bases={}, steps=1, say=lambda _: None, wire=None)
    assert meets(good)
    assert not meets({**good, "step": [{"ratio": 1.06}]})
    assert not meets({**good, "decoding": {"ratio": 4.9}})
    private = {
        "profile": "tiny",
        "batch_size": 16,
        "trained": 9,
        "private_seconds": 0.2,
        "plain_seconds": 0.1,
        "throughput_ratio": 0.5,
    }
    assert meets({**good, "private_step": [private]})
    assert not meets({**good, "private_step": [{**private, "throughput_ratio": 0.49}]})
    grid = cost_grids({**good, "private_step": [private]})[-1]
    assert grid[2] == [["tiny", "16", "9", "0.200", "0.100", "50%"]]
    for row in good["profiles"]:
        worse = {**row, "communication": {**row["communication"], "up_reduction": 0.98}}
        rows = [worse if r is row else r for r in good["profiles"]]
        assert meets({**good, "profiles": rows}) == (row["profile"] in EXEMPT)
    assert [title for title, _, _ in cost_grids(good)] == ["Parameters and memory, computed", "Communication"]
    with pytest.raises(ConfigError, match="'gpt' is no profile"):
        run_cost(sites=4, measured=("gpt",), bases={}, steps=1, say=lambda _: None, wire=None)


def test_the_committed_result_meets_its_bounds() -> None:
    found = result()
    assert meets(found)
    assert found["step"]
    assert found["decoding"] is not None
    assert found["wire"]["up_bytes"] > found["wire"]["update_bytes"]
