"""A real service and real commands as processes of their own."""

import json
import os
import select
import signal
import subprocess
import sys
import time
import urllib.request

from hotpath.cli.options import minting

HOTPATH = (sys.executable, "-m", "hotpath")
READY_SECONDS = 30


def bare_environment(**more):
    """This process's environment without settings of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HOTPATH_")}
    return {**kept, **more}


class Service:
    """`hotpath serve`; `stop` it, or `kill` it and `start` it again."""

    def __init__(self, data_dir, *options):
        self.data_dir = data_dir
        self.options = options
        self.urls = {}
        self.process = None
        self.log = data_dir.parent / f"{data_dir.name}.log"

    def start(self, *options):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*HOTPATH, "serve", "--data-dir", self.data_dir, *(options or self.options)],
                stdout=subprocess.PIPE,
                stderr=log,
                env=bare_environment(),
                text=True,
            )
        self.line = read_line(self.process, READY_SECONDS)
        self.urls = json.loads(self.line)
        return self

    def stop(self, number=signal.SIGTERM):
        """Signal and wait; the exit code and what else stood on stdout."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=30)
        return self.process.returncode, rest

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=10)

    def run(self, *arguments, stdin="", timeout=40, **environment):
        """Run a client command to its end."""
        return subprocess.run(
            [*HOTPATH, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=self.environment(**environment),
        )

    def spawn(self, *arguments, **environment):
        """Start a client command that goes on."""
        return subprocess.Popen(
            [*HOTPATH, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(**environment),
        )

    def environment(self, **more):
        return bare_environment(HOTPATH_DATA_DIR=str(self.data_dir), **more)

    def call(self, method, path, body=None):
        """A REST call as the tenant of the client commands."""
        tenant = self.environment().get("HOTPATH_TENANT", "demo")
        request = urllib.request.Request(
            self.urls["http"] + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {minting(self.data_dir, tenant)()}",
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def subscriptions(self):
        """The tenant's subscriptions."""
        return self.call("GET", "/subscriptions")["data"]

    def until_subscribed(self):
        """Wait until a subscription has a reader."""
        return until("a reader", lambda: [each for each in self.subscriptions() if each["clients"]])

    def until_called(self, operation, path_part, times):
        """Wait until a control call has been answered so often, as the service's log tells."""

        def count():
            calls = [line for line in self.log.read_text().splitlines() if path_part in line]
            return sum(f"operation={operation} " in call for call in calls) >= times

        until(f"{times} calls of {operation}", count)


def until(what, look):
    """Wait until `look` gives something true, and give that."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.05)
    raise AssertionError(f"no {what} in {READY_SECONDS} s")


def read_line(process, seconds):
    """The next line of a process, or what it said instead."""
    ready, _, _ = select.select([process.stdout], [], [], seconds)
    line = process.stdout.readline() if ready else ""
    if not line:
        process.kill()
        said = process.stderr.read() if process.stderr else ""
        raise AssertionError(f"no line in {seconds} s; exit {process.wait()}: {said}")
    return line


def reading(number, **changes):
    """A variable message."""
    return {
        "objectId": "pump-01",
        "model": "plant.pump",
        "variable": "flow",
        "timestamp": f"2026-03-01T00:00:{number % 60:02d}.000Z",
        "value": number,
        "quality": 192,
        **changes,
    }


def ndjson(messages):
    return "".join(json.dumps(message) + "\n" for message in messages)
