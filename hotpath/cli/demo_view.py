"""How the demonstration looks: a live board on a terminal, lines elsewhere."""

from collections.abc import Iterator

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from hotpath.cli.demo_feeds import Board, Watched
from hotpath.cli.output import message_text
from hotpath.model.names import SUBSCRIBABLE

_NEARLY_OVER_SECONDS = 3.0


class LiveView:
    """The whole board, drawn anew at each refresh; it fits a terminal of 80 by 24."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def __rich_console__(self, console: Console, _: ConsoleOptions) -> RenderResult:
        """Draw what there is; a taller terminal shows more of the latest messages."""
        board = self._board
        latest = 3 if console.size.height >= 32 else 2
        yield from _head(board)
        yield _feeds_table(board)
        for watched in board.feeds:
            yield Rule(Text(watched.spec.title, "bold"), align="left", style="dim")
            shown = list(watched.latest)[-latest:]
            yield from (message_text(watched.spec.topic, each) for each in shown)
            yield from (Text("…", "dim") for _ in range(latest - len(shown)))
        yield Rule(style="dim")
        notes = list(board.notes)[-2:]
        yield from (Text(each, "dim", no_wrap=True, overflow="ellipsis") for each in notes)


def _head(board: Board) -> Iterator[RenderableType]:
    counts = Text("published  ", "bold", no_wrap=True)
    for topic in SUBSCRIBABLE:
        counts.append(f"{topic.value} ", "dim").append(f"{board.published[topic]:,}  ", "bold cyan")
    yield counts
    bar = ProgressBar(total=board.seconds, completed=board.elapsed, width=40)
    yield Columns([bar, Text(f"{board.elapsed:4.1f} s of {board.seconds:g} s", "dim")])


def _feeds_table(board: Board) -> Table:
    table = Table(box=None, pad_edge=False, expand=True)
    table.add_column("filter", no_wrap=True, overflow="ellipsis", ratio=1)
    for title in ("published", "let through", "kept out", "token"):
        table.add_column(title, justify="right", no_wrap=True)
    for watched in board.feeds:
        published = board.published[watched.spec.topic]
        received = len(watched.received)
        table.add_row(
            Text(watched.spec.filter, "green"),
            f"{published:,}",
            Text(f"{received:,}", "bold cyan"),
            f"{max(published - received, 0):,}",
            _token(watched),
        )
    return table


def _token(watched: Watched) -> Text:
    left = watched.token_seconds
    style = "yellow" if left < _NEARLY_OVER_SECONDS else "default"
    text = Text(f"{left:4.1f} s", style)
    if watched.feed.renewed:
        text.append(f" renewed {watched.feed.renewed}x", "bold green")
    return text


def final_table(board: Board) -> Table:
    """The summary: for each feed what should have come, what came, and whether that is the same."""
    table = Table(title="exactly the matching messages, in order?")
    table.add_column("feed", overflow="fold")
    for title in ("published", "should match", "received", "token", ""):
        table.add_column(title, justify="right")
    for watched in board.feeds:
        agrees = watched.agrees and bool(watched.received)
        table.add_row(
            Text(watched.spec.title, "bold").append(f"\n{watched.spec.filter}", "not bold green"),
            f"{board.published[watched.spec.topic]:,}",
            f"{len(watched.expected):,}",
            f"{len(watched.received):,}",
            f"renewed {watched.feed.renewed}x",
            Text("yes", "bold green") if agrees else Text(watched.failure or "NO", "bold red"),
        )
    return table


def progress_line(board: Board) -> str:
    """The board in a line, where nobody can be shown a live one."""
    published = sum(board.published.values())
    feeds = ", ".join(
        f"{each.spec.title}: {len(each.received)} of {board.published[each.spec.topic]}"
        for each in board.feeds
    )
    return f"{board.elapsed:5.1f} s  published {published}  {feeds}"


def summary_lines(board: Board) -> list[str]:
    """The summary as plain lines."""
    lines = []
    for each in board.feeds:
        verdict = "agree" if each.agrees and each.received else (each.failure or "DO NOT AGREE")
        lines.append(
            f"{each.spec.title}: published {board.published[each.spec.topic]}, should match "
            f"{len(each.expected)}, received {len(each.received)}, token renewed "
            f"{each.feed.renewed}x: {verdict}   [{each.spec.topic.value}: {each.spec.filter}]"
        )
    return lines
