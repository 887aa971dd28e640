"""One round of Flower's SecAgg+ after another, timed; run by the Python of the peer's own environment.

Usage: python peer_flwr.py CASE, with the case as JSON. It answers each line on standard input with one line
of JSON on standard output. Nothing of this project is imported, and nothing of the peer is changed: the
workflow's four stages and the client's modifier run as the package ships them, against a grid in this
process. Names that they call are wrapped in clocks, to tell the parts and to take out what is not counted:
training, and turning arrays into bytes and back (ADR 0020 lists both).
"""

import copy
import importlib
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import flwr.server.workflow.secure_aggregation.secaggplus_workflow as server_side
import numpy as np
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.app.error import Error
from flwr.common import Code, FitIns, FitRes, Parameters, Status, bytes_to_ndarray, ndarrays_to_parameters
from flwr.compat.common import recorddict_compat as compat
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.supercore.task_identity import TaskIdentity

# The package exports a function under the module's own name, which an import statement would find.
client_side = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")

NOT_COUNTED = "not counted"
WHOLE = "whole"
TENSOR_TYPE = "numpy.ndarray"
ARITHMETIC = "arithmetic"  # belongs to the stage that it is done in
CHECKED_VALUES = 1 << 20

CLIENT_PARTS = {
    "generate_key_pairs": "keys",
    "create_shares": "shares",
    "encrypt": "shares",
    "decrypt": "shares",
    "generate_shared_key": "shares",
    "bytes_to_private_key": "shares",
    "bytes_to_public_key": "shares",
    "private_key_to_bytes": "keys",
    "public_key_to_bytes": "keys",
    "parameters_multiply": "encode",
    "quantize": "encode",
    "factor_combine": "encode",
    "pseudo_rand_gen": "masks",
    "parameters_addition": "masks",
    "parameters_subtraction": "masks",
    "parameters_mod": "masks",
    "parameters_to_ndarrays": NOT_COUNTED,
    "ndarray_to_bytes": NOT_COUNTED,
}
SERVER_PARTS = {
    "combine_shares": "unmask",
    "generate_shared_key": "unmask",
    "bytes_to_private_key": "unmask",
    "bytes_to_public_key": "unmask",
    "pseudo_rand_gen": "unmask",
    "parameters_addition": ARITHMETIC,
    "parameters_subtraction": ARITHMETIC,
    "parameters_mod": ARITHMETIC,
    "dequantize": "decode",
    "bytes_to_ndarray": NOT_COUNTED,
    "ndarrays_to_parameters": NOT_COUNTED,
}


Parts = dict[str, dict[str, float]]
Settings = dict[str, Any]


class Clock:
    """Adds up wall and processor seconds by part; what is wrapped does not nest."""

    current: "Clock"  # of whoever is at work

    def __init__(self) -> None:
        """Start at zero."""
        self.wall: dict[str, float] = {}
        self.cpu: dict[str, float] = {}

    def run(self, part: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function and count its time to a part."""
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            self.wall[part] = self.wall.get(part, 0.0) + time.perf_counter() - wall
            self.cpu[part] = self.cpu.get(part, 0.0) + time.process_time() - cpu


def clocked(module: ModuleType, names: dict[str, str]) -> None:
    """Put a clock around functions of a module, under the names by which the module calls them."""
    for name, part in names.items():
        setattr(module, name, _clocked(getattr(module, name), part))


def _clocked(function: Callable[..., Any], part: str) -> Callable[..., Any]:
    return lambda *args, **kwargs: Clock.current.run(part, function, *args, **kwargs)


def counted(clock: Clock, rest: str, arithmetic: str = ARITHMETIC) -> Parts:
    """Return the parts without what is not counted.

    Args:
        clock: Where the time was added up; `WHOLE` is all of it.
        rest: Part of what no clock was around.
        arithmetic: Part of the bare additions.
    """
    parts = {}
    for kind in ("wall", "cpu"):
        seconds = dict(getattr(clock, kind))
        total = seconds.pop(WHOLE) - seconds.pop(NOT_COUNTED, 0.0)
        known = sum(seconds.values())
        if ARITHMETIC in seconds:
            seconds[arithmetic] = seconds.get(arithmetic, 0.0) + seconds.pop(ARITHMETIC)
        seconds[rest] = seconds.get(rest, 0.0) + max(0.0, total - known)
        parts[kind] = seconds | {"total": total}
    return parts


class Client:
    """One client: its context and its modifier."""

    def __init__(self, case: Settings, site: int) -> None:
        """Take part without having said anything."""
        self.case, self.site = case, site
        self.clock = Clock()
        self.context = Context(run_id=1, node_id=site, node_config={}, state=RecordDict(), run_config={})

    def answer(self, message: Any) -> Any:
        """Let the modifier handle one message."""
        before, Clock.current = Clock.current, self.clock
        try:
            return self.clock.run(
                WHOLE, client_side.secaggplus_mod, message, self.context, self._train_not_counted
            )
        finally:
            Clock.current = before

    def _train_not_counted(self, message: Any, context: Any) -> Any:
        return self.clock.run(NOT_COUNTED, self._train, message)

    def _train(self, message: Any) -> Any:
        count, offset = self.case["params"], (self.site - 1) * self.case["params"] * 4
        update = np.fromfile(self.case["vectors"], dtype=np.float32, count=count, offset=offset)
        weight = self.case["weights"][self.site - 1]
        result = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([update]), weight, {})
        return Message(compat.fitres_to_recorddict(result, False), reply_to=message)


class Grid:
    """Messages of the workflow, answered in this process; its time is not the server's."""

    def __init__(self, case: Settings, clients: dict[int, Client]) -> None:
        """Connect the clients."""
        self.case, self.clients = case, clients
        self.collecting = False
        self.upload_bytes = 0

    def send_and_receive(self, messages: list[Any], *, timeout: float | None = None) -> Any:
        """Answer messages, as the workflow's grid does."""
        return Clock.current.run(NOT_COUNTED, self._answers, messages)

    def _answers(self, messages: list[Any]) -> list[Any]:
        answers = [self._answer(message) for message in messages]
        for answer in answers:
            if self.collecting and not answer.has_error():
                record = answer.content.config_records[server_side.RECORD_KEY_CONFIGS]
                self.upload_bytes = sum(map(len, record[server_side.Key.MASKED_PARAMETERS]))
        return answers

    def _answer(self, message: Any) -> Any:
        site = message.metadata.dst_node_id
        if self.collecting and site not in self.case["survivors"]:
            return Message(Error(0, "dropped out"), reply_to=message)
        # On a wire each client gets its own copy; the modifier takes entries out of what it gets.
        return self.clients[site].answer(copy.deepcopy(message))


class Strategy:
    """Chooses every client and takes the mean as it comes out of the workflow."""

    def __init__(self, clients: dict[int, Client]) -> None:
        """Know the clients."""
        self.clients = clients
        self.mean: Any = None

    def configure_fit(self, server_round: int, parameters: Any, client_manager: Any) -> list[Any]:
        """Choose every client."""
        return [
            (SimpleNamespace(node_id=site, cid=str(site)), FitIns(Parameters([], TENSOR_TYPE), {}))
            for site in self.clients
        ]

    def aggregate_fit(self, server_round: int, results: list[Any], failures: list[Any]) -> Any:
        """Keep the mean, which the workflow has put in the place of every client's parameters."""
        return Clock.current.run(NOT_COUNTED, self._keep, results)

    def _keep(self, results: list[Any]) -> tuple[None, dict[str, float]]:
        self.mean = bytes_to_ndarray(results[0][1].parameters.tensors[0])
        return None, {}


def run_round(case: Settings) -> dict[str, Any]:
    """Run one round and return the parts of each client and of the server."""
    clients = {site: Client(case, site) for site in range(1, case["sites"] + 1)}
    grid, strategy = Grid(case, clients), Strategy(clients)
    context, state = server_context(strategy), server_side.WorkflowState()
    workflow = server_side.SecAggPlusWorkflow(
        num_shares=1.0,  # every site holds a share of every other's, as on our side
        reconstruction_threshold=case["threshold"] / case["sites"],
        max_weight=float(case["weight_max"]),
        clipping_range=case["clip"],
    )
    light, accumulate, unmask = Clock(), Clock(), Clock()
    for stage, clock in (
        (workflow.setup_stage, light),
        (workflow.share_keys_stage, light),
        (workflow.collect_masked_vectors_stage, accumulate),
        (workflow.unmask_stage, unmask),
    ):
        Clock.current = clock
        grid.collecting = clock is accumulate
        if not clock.run(WHOLE, stage, grid, context, state):
            raise RuntimeError(f"the peer gave up in {stage.__name__}")
    return {
        "clients": [counted(clients[site].clock, "other") for site in case["survivors"]],
        "coordinator": server_parts(light, accumulate, unmask),
        "upload_bytes": grid.upload_bytes,
        "mean": save_mean(case, strategy.mean),
    }


def server_context(strategy: Strategy) -> Any:
    """Return the server's context as the workflow finds it at the start of a round."""
    plain = Context(run_id=1, node_id=0, node_config={}, state=RecordDict(), run_config={})
    context = LegacyContext(plain, strategy=strategy)
    context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({"current_round": 1})
    empty = compat.parameters_to_arrayrecord(Parameters([], TENSOR_TYPE), True)
    context.state.array_records[MAIN_PARAMS_RECORD] = empty
    return context


def server_parts(light: Clock, accumulate: Clock, unmask: Clock) -> Parts:
    """Join the stages: the sum is one part, and what follows the unmasking belongs to the decoding."""
    stages = (
        counted(light, "other"),
        counted(accumulate, "accumulate", "accumulate"),
        counted(unmask, "decode", "unmask"),
    )
    joined: Parts = {"wall": {}, "cpu": {}}
    for stage in stages:
        for kind, seconds in joined.items():
            for name, value in stage[kind].items():
                seconds[name] = seconds.get(name, 0.0) + value
    return joined


def save_mean(case: Settings, mean: Any) -> str:
    """Write the first values of the mean, so that whoever asked can see that the round was right."""
    path = Path(case["folder"]) / "peer-mean.f32"
    mean[:CHECKED_VALUES].astype(np.float32).tofile(path)
    return str(path)


def main() -> None:
    """Say the versions, then answer each line with a round."""
    case = json.loads(sys.argv[1])
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    logging.disable(logging.ERROR)
    clocked(client_side, CLIENT_PARTS)
    clocked(server_side, SERVER_PARTS)
    clocked(compat, {"recorddict_to_fitres": NOT_COUNTED})
    packages = ("flwr", "numpy", "cryptography", "pycryptodome", "protobuf")
    hello = {"python": platform.python_version()} | {name: version(name) for name in packages}
    answers, sys.stdout = sys.stdout, sys.stderr  # what else is printed must not break the lines
    answers.write(json.dumps(hello) + "\n")
    answers.flush()
    for _ in sys.stdin:
        answers.write(json.dumps(run_round(case)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
