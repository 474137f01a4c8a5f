"""
Where the processes of a cluster run.

As root on Linux, ``make cluster`` runs the tests in a network namespace and a mount namespace of their own, where
:class:`Namespaces` makes one for each process, joined by a bridge: there, a node is cut off by a firewall. Elsewhere
all run on the loopback interface, and proxies stand between the nodes and the database.
"""

from __future__ import annotations

import os
import subprocess
from abc import ABC, abstractmethod
from unittest import TestCase

from tests.database_proxy import DatabaseProxy
from tests.postgresql import Host, Server

__all__ = ["Hosts", "hosts"]

#: Set by tools/in-namespaces: nothing here can be reached from outside, or stays.
VARIABLE = "TXAPNS_TEST_NAMESPACES"
_NETWORK = "10.77.0."


class Hosts(ABC):
    """
    The hosts of one test.

    :param case: the test.
    """

    def __init__(self, case: TestCase) -> None:
        self.case = case

    @abstractmethod
    def host(self, name: str) -> Host:
        """Tell where the process of that name runs; the same each time."""

    @abstractmethod
    def ports(self, node: str, servers: list[Server]) -> list[tuple[str, int]]:
        """Tell at which addresses and ports a node reaches the servers of the database."""

    @abstractmethod
    def cut(self, node: str) -> None:
        """Cut a node off from the database: nothing gets through, and nobody is told."""

    @abstractmethod
    def heal(self, node: str) -> None:
        """Undo that."""


class Loopback(Hosts):
    """All on the loopback interface."""

    def __init__(self, case: TestCase) -> None:
        super().__init__(case)
        self._proxies: dict[str, list[DatabaseProxy]] = {}

    def host(self, name: str) -> Host:
        """See :class:`Hosts`."""
        return Host()

    def ports(self, node: str, servers: list[Server]) -> list[tuple[str, int]]:
        """See :class:`Hosts`."""
        if node not in self._proxies:
            self._proxies[node] = [DatabaseProxy(self.case, server.port) for server in servers]
        return [("127.0.0.1", proxy.port) for proxy in self._proxies[node]]

    def cut(self, node: str) -> None:
        """See :class:`Hosts`."""
        for proxy in self._proxies[node]:
            proxy.stop()

    def heal(self, node: str) -> None:
        """See :class:`Hosts`."""
        for proxy in self._proxies[node]:
            proxy.passing()


class Namespaces(Hosts):
    """Each in a network namespace of its own."""

    def __init__(self, case: TestCase) -> None:
        super().__init__(case)
        self._hosts: dict[str, Host] = {}
        self._servers: list[Server] = []
        _run("ip link add name hub type bridge")
        case.addCleanup(_run, "ip link del hub")
        _run(f"ip address add {_NETWORK}1/24 dev hub", "ip link set hub up")

    def host(self, name: str) -> Host:
        """See :class:`Hosts`."""
        if name not in self._hosts:
            self._hosts[name] = self._make(name, f"{_NETWORK}{len(self._hosts) + 2}")
        return self._hosts[name]

    def _make(self, name: str, address: str) -> Host:
        _run(f"ip netns add {name}")
        self.case.addCleanup(_run, f"ip netns del {name}")
        inside = f"nsenter --net=/run/netns/{name}"
        _run(f"ip link add name to-{name} type veth peer name eth0 netns {name}")
        # A namespace may last a little longer than its name, and so would the link.
        self.case.addCleanup(_run, f"ip link del to-{name}")
        _run(
            f"ip link set to-{name} master hub up",
            f"{inside} ip link set lo up",
            f"{inside} ip address add {address}/24 dev eth0",
            f"{inside} ip link set eth0 up",
        )
        return Host(address, tuple(inside.split()))

    def ports(self, node: str, servers: list[Server]) -> list[tuple[str, int]]:
        """See :class:`Hosts`."""
        self._servers = servers
        return [(server.host.address, server.port) for server in servers]

    def cut(self, node: str) -> None:
        """See :class:`Hosts`."""
        self._firewall(node, "--append")

    def heal(self, node: str) -> None:
        """See :class:`Hosts`."""
        self._firewall(node, "--delete")

    def _firewall(self, node: str, action: str) -> None:
        inside = " ".join(self._hosts[node].prefix)
        for server in self._servers:
            address = server.host.address
            _run(f"{inside} iptables --wait {action} INPUT --source {address} --jump DROP")
            _run(f"{inside} iptables --wait {action} OUTPUT --destination {address} --jump DROP")


def _run(*commands: str) -> None:
    for command in commands:
        done = subprocess.run(command.split(), capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"


def hosts(case: TestCase) -> Hosts:
    """Make the hosts of a test, which go with it."""
    return Namespaces(case) if VARIABLE in os.environ else Loopback(case)
