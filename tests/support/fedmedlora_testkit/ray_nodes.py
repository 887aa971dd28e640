"""A Ray cluster of this machine: nodes with resources of their own, until standard input is closed."""

from __future__ import annotations

import json
import os
import sys

__all__ = ["main"]

NODE = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}


def main() -> None:
    """Start as many nodes as the argument says; print the address and the process id of each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    for _ in range(int(sys.argv[1]) - 1):
        cluster.add_node(**NODE)
    raylets = [info.process.pid for node in cluster.list_all_nodes() for info in node.all_processes["raylet"]]
    sys.stdout.write(json.dumps({"address": cluster.address, "raylets": raylets}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
