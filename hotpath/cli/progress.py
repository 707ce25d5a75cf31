"""The progress of a publishing: a bar with a rate on a terminal, nothing elsewhere."""

import contextlib
from collections.abc import Callable, Iterator

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text
from typing_extensions import override

from hotpath.cli.output import stderr_console


class _Rate(ProgressColumn):
    """Messages accepted so far, and a second."""

    def __init__(self, accepted: Callable[[], int]) -> None:
        super().__init__()
        self._accepted = accepted

    @override
    def render(self, task: Task) -> Text:
        count = self._accepted()
        rate = count / task.elapsed if task.elapsed else 0.0
        return Text(f"{count:,} accepted  {rate:,.0f}/s", style="cyan")


class PublishProgress:
    """Told of bytes read; knows of messages accepted by asking."""

    def __init__(self, total_bytes: int | None) -> None:
        self._total = total_bytes
        self._read = 0
        self._update: Callable[[], None] = lambda: None

    def read(self, size: int) -> None:
        """So many bytes more were read."""
        self._read += size
        self._update()

    @contextlib.contextmanager
    def shown(self, accepted: Callable[[], int]) -> Iterator[None]:
        """Show it while the context lasts."""
        console = stderr_console()
        if not console.is_terminal:
            yield
            return
        columns = (
            SpinnerColumn(),
            TextColumn("publishing"),
            BarColumn(),
            _Rate(accepted),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("publishing", total=self._total)
            self._update = lambda: bar.update(task, completed=self._read)
            yield
