"""Hosts of their own on one machine: network namespaces on one switch, gone when the block is left.

The switch is in a namespace too, so no interface, address or rule of the machine itself is touched, and
nothing in here reaches anything outside.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pytest

SWITCH: Final = "switch"
NETWORK: Final = "192.0.2"  # for documentation and tests (RFC 5737): routed nowhere
_BURST: Final = ("burst", "8kb", "latency", "400ms")


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)


def _must(*arguments: str) -> str:
    done = _run(*arguments)
    if done.returncode != 0:
        raise OSError(f"`{' '.join(arguments)}`: {done.stderr.strip()}")
    return done.stdout


@dataclass(frozen=True)
class Namespaces:
    """A few hosts, each with one line to a switch.

    Attributes:
        prefix: What the names of the namespaces begin with.
        hosts: The hosts on the switch, in the order of their addresses.
        alone: Hosts without a network.
    """

    prefix: str
    hosts: tuple[str, ...]
    alone: tuple[str, ...] = ()

    def name(self, host: str) -> str:
        """Name of a host's namespace."""
        return f"{self.prefix}-{host}"

    def inside(self, host: str) -> list[str]:
        """What to put before a command so that it runs on a host."""
        return ["ip", "netns", "exec", self.name(host)]

    def address(self, host: str) -> str:
        """A host's IPv4 address."""
        return f"{NETWORK}.{self.hosts.index(host) + 1}"

    def cut(self, host: str) -> None:
        """Pull a host's line out of the switch."""
        self._ip(SWITCH, "link", "set", host, "down")

    def mend(self, host: str) -> None:
        """Put it back."""
        self._ip(SWITCH, "link", "set", host, "up")

    def slow_down(self, host: str, rate: str) -> None:
        """Shape a host's line in both directions, for example to "1mbit"."""
        for at, device in ((SWITCH, host), (host, "eth0")):
            _must("tc", "-n", self.name(at), "qdisc", "add", "dev", device, "root",
                  "tbf", "rate", rate, *_BURST)  # fmt: skip

    def processes(self) -> list[int]:
        """Whatever still runs in any of them."""
        return [int(pid) for h in self._everywhere() for pid in _must(*self._pids(h)).split()]

    def _pids(self, host: str) -> tuple[str, ...]:
        return ("ip", "netns", "pids", self.name(host))

    def _everywhere(self) -> tuple[str, ...]:
        return (SWITCH, *self.hosts, *self.alone)

    def _ip(self, host: str, *arguments: str) -> None:
        _must("ip", "-n", self.name(host), *arguments)

    def build(self) -> None:
        """Make namespaces, switch and lines."""
        for host in self._everywhere():
            _must("ip", "netns", "add", self.name(host))
            self._ip(host, "link", "set", "lo", "up")
        self._ip(SWITCH, "link", "add", "br0", "type", "bridge")
        self._ip(SWITCH, "link", "set", "br0", "up")
        for host in self.hosts:
            peer = ("peer", "name", "eth0", "netns", self.name(host))
            self._ip(SWITCH, "link", "add", host, "type", "veth", *peer)
            self._ip(SWITCH, "link", "set", host, "master", "br0", "up")
            self._ip(host, "address", "add", f"{self.address(host)}/24", "dev", "eth0")
            self._ip(host, "link", "set", "eth0", "up")

    def remove(self) -> None:
        """Take all of it away; what lies inside goes with it."""
        for host in self._everywhere():
            _run("ip", "netns", "delete", self.name(host))


@contextmanager
def network_of(hosts: Sequence[str], alone: Sequence[str] = ()) -> Iterator[Namespaces]:
    """Hosts for the length of a block; the test is skipped where this machine lets us make none."""
    network = Namespaces(f"fml{os.getpid()}", tuple(hosts), tuple(alone))
    reason = _missing(network.name("trial"))
    if reason:
        pytest.skip(f"no network namespaces here: {reason}")
    try:
        network.build()
        yield network
    finally:
        network.remove()


def _missing(trial: str) -> str:
    """Why there are no namespaces here; empty if there are."""
    lacking = [program for program in ("ip", "tc", "bash") if shutil.which(program) is None]
    if lacking:
        return f"{', '.join(lacking)} is not installed"
    if os.geteuid() != 0:
        return "only root may make them"
    made = _run("ip", "netns", "add", trial)
    _run("ip", "netns", "delete", trial)
    return made.stderr.strip() if made.returncode else ""
