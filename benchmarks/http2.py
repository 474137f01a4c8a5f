"""
What a notification costs over HTTP/2, beside other clients: ``python benchmarks/http2.py [--help]``.

A server in a process of its own, written in C for this (``server/server.c``), answers and looks at nothing, so that it
is not what the senders wait for. Each sender is a process of its own as well, ours as any other, and they take turns:

- txapns: ``client.send(notification, generator of tokens)``, with a provider token, results and all;
- h2load, of nghttp2 and in C: the limit. It sends the same header fields, and makes nothing of the answers;
- aioapns, aapns (Python), @parse/node-apn and apns2 (node), those that ``make peers`` has installed.

Before it measures, a sender sends a tenth as many, so that its connections are open and node has compiled what it runs;
its start is not measured either. h2load's is: its few milliseconds are in the figures. A slower peer sends fewer.

The rate is over the time from the first token to the last answer; the CPU time is that of the sending process, user and
system; the memory is the peak of the process's whole life (Linux). Medians are printed, with the range.
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
from collections.abc import Callable, Iterator
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
#: The connection window of HTTP/2 and Apple, in octets.
WINDOW = 65_535
#: How many a sender sends at least.
LEAST = 500
#: How often the peak of a sender's memory is looked at, in seconds.
LOOK = 0.02


@attrs.frozen
class Scenario:
    """
    What is sent, and how the server answers.

    :ivar says: what it is, in words.
    :ivar payload: how long the payload is, in octets.
    :ivar connections: how many connections there may be.
    :ivar delay: how long an answer takes, in ms.
    :ivar hold: whether the server gives the window back with the answer only.
    :ivar dead_every: every how many tokens one is dead; 0 for none.
    :ivar most: after how many requests the server ends a connection by GOAWAY; 0 for never.
    :ivar share: how many to send, as a part of ``--count``.
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
        """How many a client that does not look at the window can have under way on a connection."""
        # The server gives back no less than half the window at a time, unless it does so with each answer.
        return min(STREAMS, (WINDOW if self.hold else WINDOW // 2) // (self.payload + 2))  # there may be spaces in JSON

    @property
    def limit(self) -> float | None:
        """How many a second the server lets through."""
        under_way = min(STREAMS, WINDOW / self.payload) if self.hold else STREAMS
        return under_way * self.connections / self.delay * 1_000 if self.delay else None


SCENARIOS = {
    "plain": Scenario("118 octets, 1 connection, no delay"),
    "delay": Scenario("118 octets, 1 connection, answers after 50 ms", delay=50, share=0.5),
    "delay4": Scenario("118 octets, 4 connections, answers after 50 ms", connections=4, delay=50),
    "window": Scenario(
        "4,080 octets, 1 connection, answers after 20 ms, which give the window back",
        payload=4_080,
        delay=20,
        hold=True,
        share=0.015,
    ),
    "goaway": Scenario("118 octets, 1 connection, no delay, GOAWAY after every 1,000 requests", most=1_000),
    "dead": Scenario("118 octets, 1 connection, no delay, every 10th token dead", dead_every=10),
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
        """Say what a sender needs to know: see ``peers/task.py``."""
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
        """A text that makes the payload as long as it is to be."""
        return "x" * (self.scenario.payload - len('{"aps":{"alert":""}}'))

    def accepted(self, count: int) -> int:
        """How many of so many the server accepts."""
        every = self.scenario.dead_every
        return count - (-(-count // every) if every else 0)


@attrs.frozen
class Figures:
    """
    What sending took.

    :ivar count: how many were sent.
    :ivar rate: how many a second.
    :ivar cpu: CPU time of each, in µs.
    :ivar peak: the peak of memory, in MB.
    :ivar lost: how many were not accepted that should have been.
    """

    count: int
    rate: float
    cpu: float
    peak: float
    lost: int


@attrs.frozen
class Peer:
    """
    A sender.

    :ivar run: sends so many to a server.
    :ivar share: how many, as a part of what we send: the slower the fewer.
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
            # Not ru_maxrss: on Linux that begins with the peak of the process that started it, which is this one.
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


def run_script(command: list[str], server: Server, count: int) -> Figures:
    """Run one of ``peers/``."""
    task = json.dumps(server.task(count, count // 10))
    node_path = {"NODE_PATH": str(ENVIRONMENT / "node/node_modules")}
    printed, _, peak = run_process([*command, task], node_path)
    found = json.loads(printed)
    return Figures(count, found["rate"], found["cpu"], peak, server.accepted(count) - found["accepted"])


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
    """One with an environment of its own."""
    command = [str(ENVIRONMENT / name / "bin/python"), str(HERE / f"peers/{name}_peer.py")]
    return Peer(partial(run_script, command), share, lambda: not (ENVIRONMENT / name / "installed").exists())


def node_peer(name: str, share: float) -> Peer:
    """One of those in the environment for node."""
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
    """Compile the server, if that was not done before."""
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
    """Start the server, and end it."""
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


def compare(scenario: Scenario, names: list[str], count: int, rounds: int) -> Found:
    """Let the senders take turns."""
    found: Found = {name: [] for name in names if name != "h2load" or not scenario.most}  # it does not reconnect
    with serving(scenario) as server:
        for _ in range(rounds):
            for name in found:
                peer = PEERS[name]
                found[name].append(peer.run(server, max(LEAST, int(count * scenario.share * peer.share))))
    return found


def median(figures: list[Figures], what: str) -> float:
    """The middle one of the rounds."""
    return statistics.median(getattr(one, what) for one in figures)


def spread(figures: list[Figures], what: str, form: str) -> str:
    """The middle one, with the range."""
    values = [getattr(one, what) for one in figures]
    return f"{median(figures, what):{form}} ({min(values):{form}} to {max(values):{form}})"


def show(scenario: Scenario, found: Found) -> None:
    """Print what one scenario took."""
    limit = f"; the server lets {scenario.limit:,.0f}/s through" if scenario.limit else ""
    print(f"\n{scenario.says}{limit}")
    for name, figures in found.items():
        lost = sum(one.lost for one in figures)
        print(
            f"  {name:9} {spread(figures, 'rate', ',.0f') + '/s':38} {spread(figures, 'cpu', '.2f'):28} µs CPU each"
            f"  {median(figures, 'peak'):5.0f} MB  {figures[0].count:,} sent" + (f", {lost} LOST" if lost else "")
        )


def ratio(above: list[Figures], below: list[Figures], what: str) -> float:
    """How many times as much one took as the other, in the same round."""
    pairs = zip(above, below, strict=True)
    return statistics.median(getattr(one, what) / getattr(other, what) for one, other in pairs)


def goals(results: dict[str, Found], memory: list[Figures]) -> Iterator[tuple[str, float, bool]]:
    """What is wanted, what there is, and whether that is enough."""
    plain = results.get("plain", {})
    ours = plain.get("txapns", [])
    if ours and "h2load" in plain:
        cpu, rate = ratio(ours, plain["h2load"], "cpu"), ratio(ours, plain["h2load"], "rate")
        yield "CPU time each, in h2load's: at most 3.5", cpu, cpu <= 3.5
        yield "rate, in h2load's: at least 0.4", rate, rate >= 0.4
    if ours and "aioapns" in plain:
        rate = ratio(ours, plain["aioapns"], "rate")
        yield "rate, in aioapns's: at least 20", rate, rate >= 20
    for name in ("delay", "delay4"):
        if "txapns" in results.get(name, {}):
            part = median(results[name]["txapns"], "rate") / SCENARIOS[name].limit
            yield f"rate, of what the streams allow, {name}: at least 0.9", part, part >= 0.9
    if ours and "txapns" in results.get("goaway", {}):
        rate = ratio(results["goaway"]["txapns"], ours, "rate")
        yield "rate with a GOAWAY after every 1,000, of that without: at least 0.8", rate, rate >= 0.8
    if memory:
        short, long = memory
        growth = long.peak - short.peak
        wanted = f"MB that {long.count:,} tokens take above the {short.peak:.0f} of {short.count:,}: at most 20"
        yield wanted, growth, growth <= 20


def measure_memory() -> list[Figures]:
    """Find the peak for a short and a long batch."""
    with serving(SCENARIOS["plain"]) as server:
        return [PEERS["txapns"].run(server, count) for count in (10_000, 1_000_000)]


def plot(results: dict[str, Found], path: Path) -> None:
    """Draw rate, CPU time and memory of each, a row for each scenario."""
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
    parser.add_argument("--count", type=int, default=200_000, help="how many we send; the others and delays: fewer")
    parser.add_argument("--memory", action="store_true", help="also the peak for 10,000 and for 1,000,000 tokens")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plot", type=Path, help="draw them into this file; needs the extra bench")
    return parser.parse_args()


def main() -> None:
    """Compare, and tell."""
    given = arguments()
    names = [name for name in given.peers if not PEERS[name].missing()]
    if missing := [name for name in given.peers if name not in names]:
        print(f"without {', '.join(missing)}: make peers installs them, and h2load is in Debian's nghttp2-client")
    results = {}
    for name in given.scenario:
        results[name] = compare(SCENARIOS[name], names, given.count, given.rounds)
        show(SCENARIOS[name], results[name])
    memory = measure_memory() if given.memory else []
    print()
    for wanted, there_is, held in goals(results, memory):
        print(f"{wanted}: {there_is:.2f}{'' if held else ', NOT REACHED'}")
    if given.json:
        machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
        value = {"machine": machine, "results": results, "memory": memory}
        given.json.write_text(json.dumps(value, default=attrs.asdict, indent=1))
    if given.plot:
        plot(results, given.plot)


if __name__ == "__main__":
    main()
