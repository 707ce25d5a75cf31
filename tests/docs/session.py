"""A terminal in which the shell blocks of one page are run, beside a service of its own.

What differs from a reader's terminal: ports and absolute paths are free ones, the service that
`make run` starts is there, `make` is looked up (`make -n`) instead of building anew what runs this
test, and benchmarks are not run but their arguments are parsed.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.cli import build_parser
from tests.docs.blocks import ROOT, SHELL, Block, commands_of
from tests.support.process import running_server

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
PORTS = (8080, 5672, 8443, 5671, 9000, 9090)
ENDPOINT = "https://test-api.com/test/webhook"
WEBHOOKS = {"webhook_allow_networks": "127.0.0.0/8"}
SECONDS = 50

PRELUDE = """\
set -euo pipefail
make() { [ "$*" = run ] || command make --no-print-directory -n -C "$PAGE_ROOT" "$@" >/dev/null; }
python() {
  if [ "$1 ${2-}" = "-m bench" ]; then shift 2; printf '%s\\n' "$*" >>benchmarks
  else command python "$@"; fi
}
"""


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in taken:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in taken]


@contextmanager
def endpoint() -> Iterator[str]:
    """Takes every webhook; its URL."""

    class Endpoint(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/test/webhook"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Session:
    """The script of a page and where it runs."""

    def __init__(self, blocks: Sequence[Block], directory: Path, sink: str) -> None:
        self.directory = directory
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.ready = directory / "ready"
        self._sink = sink
        for block in blocks:
            if block.saved_as:
                (directory / block.saved_as).write_text(self.local(block.text))
        shell = [block for block in blocks if block.language in SHELL]
        everything = "".join(commands_of(block) for block in shell)
        first = re.search(r"\b(curl|hotpath [a-z]\S*)", everything)
        # A page that begins with starting the service itself.
        self.serves = first is not None and first[0] == "hotpath serve"
        called = first is not None or "examples/" in everything
        self.needs_service = called and not self.serves
        self.script = PRELUDE + "\n".join(
            f"printf '\\n== %s\\n' '{block}'\n{self.local(commands_of(block))}" for block in shell
        )

    def local(self, text: str) -> str:
        """A text with the addresses and places of this run in it."""
        text = text.replace(ENDPOINT, self._sink)
        text = text.replace("/var/lib/hotpath", str(self.directory / "data"))
        text = text.replace("/backup/", f"{self.directory}/backup/")
        text = re.sub(r"(?<!\S)(examples/)", rf"{ROOT}/\1", text)
        text = text.replace(".venv/bin/", f"{BIN}/")
        return re.sub(
            r"(127\.0\.0\.1|localhost):(\d+)",
            lambda found: f"{found[1]}:{self.ports.get(int(found[2]), found[2])}",
            text,
        )

    def environment(self) -> dict[str, str]:
        """What the script finds: ports, and the commands in front of the path."""
        kept = {name: text for name, text in os.environ.items() if not name.startswith("HOTPATH_")}
        return {
            **kept,
            "PATH": f"{HERE}:{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PAGE_HOTPATH": str(BIN / "hotpath"),
            "PAGE_READY": str(self.ready),
            "PAGE_ROOT": str(ROOT),
            "PAGE_SERVES": "1" if self.serves else "",
            "HOTPATH_HTTP": f"127.0.0.1:{self.ports[8080]}",
            "HOTPATH_URL": f"http://127.0.0.1:{self.ports[8080]}",
            "HOTPATH_LISTEN": f"127.0.0.1:{self.ports[9000]}",
            "HOTPATH_AMQP": f"127.0.0.1:{self.ports[5672]}",
            "NO_COLOR": "1",
        }

    def run(self) -> str:
        """Run the script to its end; what it printed."""
        said = self.directory / "said"
        with said.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-c", self.script],
                cwd=self.directory,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(SECONDS)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                self._end(process)
        text = said.read_text()
        assert code == 0, f"{'not done in time' if code is None else code}: {text[-4000:]}"
        self._check_benchmarks()
        return text

    def _check_benchmarks(self) -> None:
        """Benchmarks take minutes: their arguments are looked at."""
        named = self.directory / "benchmarks"
        for line in named.read_text().splitlines() if named.exists() else []:
            build_parser().parse_args(line.split())

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End what the page has left running in the background."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        process.wait()


def run_page(blocks: Sequence[Block], directory: Path) -> str:
    """Run a page's shell blocks in order; what they printed."""
    with ExitStack() as stack:
        session = Session(blocks, directory, stack.enter_context(endpoint()))
        if session.needs_service:
            stack.enter_context(
                running_server(
                    directory / "data",
                    "--webhook-allow-http",
                    http=f"127.0.0.1:{session.ports[8080]}",
                    amqp=f"127.0.0.1:{session.ports[5672]}",
                    **WEBHOOKS,
                )
            )
            session.ready.write_text("{}\n")
        return session.run()
