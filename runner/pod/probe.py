"""`runner.pod probe`: what a pod of this cluster can reach, for `runner doctor --probe`.

`probe listen SECONDS` answers whoever connects, as a run's server would, and ends by itself.
`probe try HOST:PORT…` prints a line of JSON: what came of each connection, by its place.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from runner.errors import UsageError
from runner.pod.layout import PORT
from runner.signals import accept_sigterm

CONNECT_S = 3.0
LOOK_S = 0.5
REACHED, REFUSED, SILENT, UNKNOWN, UNREACHABLE = (
    *("reached", "refused", "silent", "unknown", "unreachable"),
)
"""A connection; a reset, by the host or a policy that rejects; no answer; no such name; no way."""


def main(arguments: list[str]) -> int:
    """Listen, or try; raises UsageError for anything else."""
    match arguments:
        case ["listen", seconds] if seconds.isdigit():
            leave = threading.Event()
            signal.signal(signal.SIGTERM, lambda *_: leave.set())
            accept_sigterm()
            with listening("", PORT) as server:
                answer(server, leave, int(seconds))
            return 0
        case ["try", *places] if places:
            print(json.dumps(tried(places)), flush=True)  # noqa: T201 - the client reads it
            return 0
    raise UsageError(
        f"runner.pod probe: expected listen SECONDS or try HOST:PORT…, not {arguments}"
    )


def listening(host: str, port: int) -> socket.socket:
    """A socket that connections are made to; for the pod's addresses of both kinds."""
    both = socket.has_dualstack_ipv6() and not host
    family = socket.AF_INET6 if both else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=64, dualstack_ipv6=both)


def answer(server: socket.socket, leave: threading.Event, seconds: float) -> None:
    """Take connections and close them, so that there is always room for one more."""
    server.settimeout(LOOK_S)
    end = time.monotonic() + seconds
    while time.monotonic() < end and not leave.is_set():
        with suppress(TimeoutError, ConnectionError):
            server.accept()[0].close()


def tried(places: list[str]) -> Mapping[str, str]:
    """What comes of connecting to each of them, all at once."""
    with ThreadPoolExecutor(len(places)) as pool:
        return dict(zip(places, pool.map(outcome, places), strict=True))


def outcome(place: str) -> str:
    """What comes of connecting to HOST:PORT; of `$NAME` the variable's value is meant."""
    host, _, port = os.path.expandvars(place).rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S):
            return REACHED
    except ConnectionRefusedError:
        return REFUSED
    except TimeoutError:
        return SILENT
    except socket.gaierror:
        return UNKNOWN
    except OSError:
        return UNREACHABLE
