"""
What a notification costs over HTTP/2, compared with other clients: ``python benchmarks/http2.py [--help]``.

A server in a process of its own, written in C for this (``server/server.c``), responds without checking anything, so
that it is not the bottleneck. Each sender, ours too, is a process of its own, and they take turns:

- txapns: ``client.send(notification, generator of tokens)``, with a provider token, results and all;
- h2load, of nghttp2 and in C: the limit. It sends the same header fields, and ignores the responses;
- aioapns, aapns (Python), @parse/node-apn and apns2 (node), as far as ``make peers`` has installed them.

Before the measurement a sender sends a tenth as many, so that its connections are open and node has compiled the code.
The start of the process is not measured, except h2load's, which takes a few milliseconds. A slower peer sends fewer.

The rate is over the time from the first token to the last response; the CPU time is that of the sending process, user
and system; the memory is the peak of the process's whole life (Linux). Medians are printed, with the range.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs

from txapns import Notification, ProviderToken
from txapns.simulator import Authority

HERE = Path(__file__).parent
#: Where ``make peers`` installs, and where the server is built.
ENVIRONMENT = HERE.parent / ".venv/bench"
TOPIC, KEY_ID, TEAM_ID = "com.example.app", "ABCDE12345", "TEAM123456"
#: The MAX_CONCURRENT_STREAMS that the server announces: Apple's.
STREAMS = 1_000
#: The connection window of HTTP/2 and Apple, in bytes.
WINDOW = 65_535
#: The minimum that a sender sends.
LEAST = 500
#: How often the peak of a sender's memory is read, in seconds.
LOOK = 0.02


@attrs.frozen
class Scenario:
    """
    What is sent, and how the server responds.

    :ivar says: a description.
    :ivar payload: the length of the payload in bytes.
    :ivar connections: the maximum of connections.
    :ivar delay: how long a response takes, in ms.
    :ivar hold: whether the server gives the window back only with the response.
    :ivar dead_every: one of so many tokens is dead; 0 for none.
    :ivar most: after how many requests the server ends a connection by GOAWAY; 0 for never.
    :ivar share: how many to send, as a fraction of ``--count``.
    """

    says: str
    payload: int = 118
    connections: int = 1
    delay: int = 0
    hold: bool = False
    dead_every: int = 0
    most: int = 0
    share: float = 1.0

    @property
    def blind(self) -> int:
        """How many requests a client that ignores the window can have under way on a connection."""
        # The server gives back at least half the window at a time, unless it does so with each response.
        return min(STREAMS, (WINDOW if self.hold else WINDOW // 2) // (self.payload + 2))  # there may be spaces in JSON

    @property
    def limit(self) -> float | None:
        """How many a second the server allows."""
        under_way = min(STREAMS, WINDOW / self.payload) if self.hold else STREAMS
        return under_way * self.connections / self.delay * 1_000 if self.delay else None


SCENARIOS = {
    "plain": Scenario("118 bytes, 1 connection, no delay"),
    "delay": Scenario("118 bytes, 1 connection, responses after 50 ms", delay=50, share=0.5),
    "delay4": Scenario("118 bytes, 4 connections, responses after 50 ms", connections=4, delay=50),
    "window": Scenario(
        "4,080 bytes, 1 connection, responses after 20 ms, which give the window back",
        payload=4_080,
        delay=20,
        hold=True,
        share=0.015,
    ),
    "goaway": Scenario("118 bytes, 1 connection, no delay, GOAWAY after every 1,000 requests", most=1_000),
    "dead": Scenario("118 bytes, 1 connection, no delay, every 10th token dead", dead_every=10),
}


@attrs.frozen
class Server:
    """
    The server of one scenario, and the credentials for it.

    :ivar scenario: what is sent.
    :ivar state: the directory with the credentials.
    :ivar port: where it listens.
    :ivar process: the number of its process.
    """

    scenario: Scenario
    state: Path
    port: int
    process: int

    def task(self, count: int, warm_up: int) -> dict[str, object]:
        """Return what a sender needs to know: see ``peers/task.py``."""
        return {
            "port": self.port,
            "ca": str(self.state / "ca.pem"),
            "certificate": str(self.state / "client.pem"),
            "p8": str(self.state / "AuthKey.p8"),
            "key_id": KEY_ID,
            "team_id": TEAM_ID,
            "topic": TOPIC,
            "alert": self.alert,
            "connections": self.scenario.connections,
            "streams": STREAMS,
            "blind": self.scenario.blind,
            "dead_every": self.scenario.dead_every,
            "count": count,
            "warm_up": warm_up,
        }

    @property
    def alert(self) -> str:
        """A text that gives the payload its length."""
        return "x" * (self.scenario.payload - len('{"aps":{"alert":""}}'))

    def accepted(self, count: int) -> int:
        """Return how many of ``count`` the server accepts."""
        every = self.scenario.dead_every
        return count - (-(-count // every) if every else 0)


@attrs.frozen
class Figures:
    """
    The results of sending.

    :ivar count: how many were sent.
    :ivar rate: notifications a second.
    :ivar cpu: CPU time of each, in µs.
    :ivar peak: the peak of memory, in MB.
    :ivar lost: how many were not accepted that should have been.
    :ivar started: when it began and when it ended, by the machine's monotonic clock, if the sender tells.
    """

    count: int
    rate: float
    cpu: float
    peak: float
    lost: int
    started: float = 0.0
    ended: float = 0.0


@attrs.frozen
class Peer:
    """
    A sender.

    :ivar run: sends a number of notifications to a server.
    :ivar share: how many, as a fraction of what we send: fewer for a slow peer.
    :ivar missing: whether it is not installed.
    """

    run: Callable[[Server, int], Figures]
    share: float
    missing: Callable[[], bool]


def run_process(command: list[str], environment: dict[str, str] | None = None) -> tuple[str, float, float]:
    """Run a sender; returns what it printed, its CPU time in seconds, and the peak of its memory in MB."""
    peak, before = 0, resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryFile("w+") as printed:
        with subprocess.Popen(command, stdout=printed, env={**os.environ, **(environment or {})}) as process:
            # Not ru_maxrss: on Linux it begins with the peak of the parent, which is this process.
            status = Path(f"/proc/{process.pid}/status")
            while process.poll() is None:
                found = re.search(r"VmHWM:\s+(\d+)", status.read_text())
                peak = max(peak, int(found[1]) if found else 0)
                time.sleep(LOOK)
        if process.returncode != 0:
            raise SystemExit(f"{command[0]} ended with {process.returncode}")
        printed.seek(0)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return printed.read(), cpu, peak / 1024


def run_script(command: list[str], server: Server, count: int, way: str = "send") -> Figures:
    """Run a script of ``peers/``, which may have several ways to send."""
    task = json.dumps({**server.task(count, count // 10), "way": way})
    node_path = {"NODE_PATH": str(ENVIRONMENT / "node/node_modules")}
    printed, _, peak = run_process([*command, task], node_path)
    found = json.loads(printed)
    lost = server.accepted(count) - found["accepted"]
    times = found.get("started", 0.0), found.get("ended", 0.0)
    return Figures(count, found["rate"], found["cpu"], peak, lost, *times)


def run_h2load(server: Server, count: int) -> Figures:
    """Run h2load with the header fields that txapns sends."""
    token = ProviderToken.from_file(server.state / "AuthKey.p8", KEY_ID, TEAM_ID)
    notification = Notification(payload={"aps": {"alert": server.alert}}, topic=TOPIC)
    fields = [(b"authorization", token.current(time.time()).value), *notification.headers()]
    every = server.scenario.dead_every
    starts = ("dd" if every and number % every == 0 else "00" for number in range(1_000))
    uris, payload = server.state / "uris", server.state / "payload"
    urls = (f"https://localhost:{server.port}/3/device/{start}{n:062x}" for n, start in enumerate(starts))
    uris.write_text("\n".join(urls))
    payload.write_bytes(notification.body)
    command = ["h2load", "-t1", "-n", str(count), "-c", str(server.scenario.connections), "-m", str(STREAMS)]
    command += ["-i", str(uris), "-d", str(payload)]
    command += [f"-H{name.decode()}: {value.decode()}" for name, value in fields]
    printed, cpu, peak = run_process(command)
    rate = float(re.search(r"([\d.]+) req/s", printed)[1])
    accepted = int(re.search(r"(\d+) 2xx", printed)[1])
    return Figures(count, rate, cpu / count * 1e6, peak, server.accepted(count) - accepted)


def python_peer(name: str, share: float) -> Peer:
    """Make a peer with an environment of its own."""
    command = [str(ENVIRONMENT / name / "bin/python"), str(HERE / f"peers/{name}_peer.py")]
    return Peer(partial(run_script, command), share, lambda: not (ENVIRONMENT / name / "installed").exists())


def node_peer(name: str, share: float) -> Peer:
    """Make a peer in the environment for node."""
    command = ["node", str(HERE / f"peers/{name}_peer.js")]
    return Peer(partial(run_script, command), share, lambda: not (ENVIRONMENT / "node/installed").exists())


OURS = [sys.executable, str(HERE / "peers/txapns_peer.py")]
PEERS = {
    "txapns": Peer(partial(run_script, OURS), 1.0, lambda: False),
    "h2load": Peer(run_h2load, 1.0, lambda: shutil.which("h2load") is None),
    "node_apn": node_peer("node_apn", 0.2),
    "apns2": node_peer("apns2", 0.2),
    "aapns": python_peer("aapns", 0.04),
    "aioapns": python_peer("aioapns", 0.04),
}


def build_server() -> Path:
    """Compile the server if necessary."""
    source, program = HERE / "server/server.c", ENVIRONMENT / "server"
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    ENVIRONMENT.mkdir(parents=True, exist_ok=True)
    command = ["cc", "-O2", "-o", str(program), str(source), "-lnghttp2", "-lssl", "-lcrypto"]
    if shutil.which("cc") is None or subprocess.run(command).returncode != 0:
        raise SystemExit(
            "the server needs a C compiler, libnghttp2 and OpenSSL: gcc libnghttp2-dev libssl-dev (Debian)"
        )
    return program


@contextmanager
def serving(scenario: Scenario) -> Iterator[Server]:
    """Run the server."""
    program, authority = build_server(), Authority()
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory)
        (state / "ca.pem").write_bytes(authority.ca_pem)
        (state / "server.pem").write_bytes(authority.server_certificate())
        (state / "client.pem").write_bytes(authority.client_pem(TOPIC))
        (state / "AuthKey.p8").write_bytes(authority.p8)
        pem, hold = str(state / "server.pem"), str(int(scenario.hold))
        command = [str(program), "0", pem, pem, str(STREAMS), str(scenario.delay), hold, str(scenario.most)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                yield Server(scenario, state, int(server.stdout.readline()), server.pid)
            finally:
                server.terminate()


Found = dict[str, list[Figures]]


def compare(scenario: Scenario, peers: Mapping[str, Peer], count: int, rounds: int) -> Found:
    """Let the senders take turns."""
    found: Found = {name: [] for name in peers if name != "h2load" or not scenario.most}  # it does not reconnect
    with serving(scenario) as server:
        for _ in range(rounds):
            for name in found:
                peer = peers[name]
                found[name].append(peer.run(server, max(LEAST, int(count * scenario.share * peer.share))))
    return found


def median(figures: list[Figures], what: str) -> float:
    """Return the median of the rounds."""
    return statistics.median(getattr(one, what) for one in figures)


def spread(figures: list[Figures], what: str, form: str) -> str:
    """Write the median, with the range."""
    values = [getattr(one, what) for one in figures]
    return f"{median(figures, what):{form}} ({min(values):{form}} to {max(values):{form}})"


def show(scenario: Scenario, found: Found) -> None:
    """Print the results of a scenario."""
    limit = f"; the server allows {scenario.limit:,.0f}/s" if scenario.limit else ""
    print(f"\n{scenario.says}{limit}")
    for name, figures in found.items():
        lost = sum(one.lost for one in figures)
        print(
            f"  {name:9} {spread(figures, 'rate', ',.0f') + '/s':38} {spread(figures, 'cpu', '.2f'):28} µs CPU each"
            f"  {median(figures, 'peak'):5.0f} MB  {figures[0].count:,} sent" + (f", {lost} LOST" if lost else "")
        )


def ratio(above: list[Figures], below: list[Figures], what: str) -> float:
    """Return the median ratio of two senders, round by round."""
    pairs = zip(above, below, strict=True)
    return statistics.median(getattr(one, what) / getattr(other, what) for one, other in pairs)


def goals(results: dict[str, Found], memory: list[Figures]) -> Iterator[tuple[str, float, bool]]:
    """Yield each goal, the figure, and whether it is reached."""
    plain = results.get("plain", {})
    ours = plain.get("txapns", [])
    if ours and "h2load" in plain:
        cpu, rate = ratio(ours, plain["h2load"], "cpu"), ratio(ours, plain["h2load"], "rate")
        yield "CPU time each, as a multiple of h2load's: at most 3.5", cpu, cpu <= 3.5
        yield "rate, as a multiple of h2load's: at least 0.4", rate, rate >= 0.4
    if ours and "aioapns" in plain:
        rate = ratio(ours, plain["aioapns"], "rate")
        yield "rate, as a multiple of aioapns's: at least 20", rate, rate >= 20
    for name in ("delay", "delay4"):
        if "txapns" in results.get(name, {}):
            part = median(results[name]["txapns"], "rate") / SCENARIOS[name].limit
            yield f"rate, as a fraction of what the streams allow, {name}: at least 0.9", part, part >= 0.9
    if ours and "txapns" in results.get("goaway", {}):
        rate = ratio(results["goaway"]["txapns"], ours, "rate")
        yield "rate with a GOAWAY after every 1,000, as a fraction of that without: at least 0.8", rate, rate >= 0.8
    if memory:
        short, long = memory
        growth = long.peak - short.peak
        goal = f"MB that {long.count:,} tokens take above the {short.peak:.0f} of {short.count:,}: at most 20"
        yield goal, growth, growth <= 20


def measure_memory(peer: Peer) -> list[Figures]:
    """Measure the peak for a short and a long batch."""
    with serving(SCENARIOS["plain"]) as server:
        return [peer.run(server, count) for count in (10_000, 1_000_000)]


def plot(results: dict[str, Found], path: Path) -> None:
    """Plot rate, CPU time and memory of each sender, a row for each scenario."""
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    columns = {"rate": "notifications/s", "cpu": "µs CPU each", "peak": "peak memory, MB"}
    figure, rows = pyplot.subplots(len(results), 3, figsize=(13, 2.4 * len(results)), squeeze=False)
    for axes, (name, found) in zip(rows, results.items(), strict=True):
        for axis, (what, label) in zip(axes, columns.items(), strict=True):
            names = list(reversed(found))
            values = [median(found[name], what) for name in names]
            bars = axis.barh(names, values, color=["#d1495b" if name == "txapns" else "#66a5ad" for name in names])
            axis.bar_label(bars, fmt="{:,.0f}" if what != "cpu" else "{:,.1f}", padding=3, fontsize=8)
            axis.set(xscale="log", xlabel=label, xlim=(min(values) / 2, max(values) * 4))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].set_title(SCENARIOS[name].says, loc="left", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0].strip())
    scenarios = "; ".join(f"{name}: {scenario.says}" for name, scenario in SCENARIOS.items())
    parser.add_argument("--scenario", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), help=scenarios)
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS), help="the senders")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--count", type=int, default=200_000, help="how many we send; slower peers and scenarios send fewer"
    )
    parser.add_argument(
        "--memory", action="store_true", help="also measure the peak for 10,000 and for 1,000,000 tokens"
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="plot them to this file; needs the extra bench")
    return parser.parse_args()


def main() -> None:
    """Compare, and print the results."""
    given = arguments()
    peers = {name: PEERS[name] for name in given.peers if not PEERS[name].missing()}
    if missing := [name for name in given.peers if name not in peers]:
        print(f"without {', '.join(missing)}: make peers installs them, and h2load is in Debian's nghttp2-client")
    results = {}
    for name in given.scenario:
        results[name] = compare(SCENARIOS[name], peers, given.count, given.rounds)
        show(SCENARIOS[name], results[name])
    memory = measure_memory(PEERS["txapns"]) if given.memory else []
    print()
    for goal, figure, reached in goals(results, memory):
        print(f"{goal}: {figure:.2f}{'' if reached else ', NOT REACHED'}")
    if given.json:
        machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
        value = {"machine": machine, "results": results, "memory": memory}
        given.json.write_text(json.dumps(value, default=attrs.asdict, indent=1))
    if given.plot:
        plot(results, given.plot)


if __name__ == "__main__":
    main()
