"""The fenced blocks of the pages: where each stands, its language, and why one is not run."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "bench/README.md")),
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)

SHELL = frozenset({"bash", "sh", "console"})
# Parsed, or looked at for their shape.
CHECKED = frozenset({"json", "toml", "yaml", "ini", "nginx", "dockerfile", "qel"})
# A picture, or what a command prints.
SHOWN = frozenset({"text"})
# Clients in these languages are run by tests/interop; a block of one says so.
FOREIGN = frozenset({"cpp", "csharp", "go", "java"})
LANGUAGES = SHELL | CHECKED | SHOWN | FOREIGN | {"python", "js"}

_FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_NOT_RUN = re.compile(r"<!-- not run: ([^>]+?) -->\n *$")
_SAVED = re.compile(r"[Ss]ave (?:it |this )?as\s+`([\w.]+)`[^\n]*\n+$")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None
    """Why it is not run; None if it is."""
    saved_as: str | None
    """The file that the page tells to put it into."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text()
    return [_block(page, text, found) for found in _FENCE.finditer(text)]


def _block(page: Path, text: str, found: re.Match[str]) -> Block:
    above = text[: found.start()]
    not_run = _NOT_RUN.search(above)
    saved = _SAVED.search(above)
    indent = len(found[1])
    return Block(
        page=str(page.relative_to(ROOT)),
        line=above.count("\n") + 1,
        language=found[2],
        text="".join(line[indent:] for line in found[3].splitlines(keepends=True)),
        reason=not_run[1] if not_run else None,
        saved_as=saved[1] if saved else None,
    )


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def commands_of(block: Block) -> str:
    """A shell block as a script: of a transcript with `$`, what stands behind them."""
    lines = block.text.splitlines()
    if not any(line.startswith("$ ") for line in lines):
        return block.text
    return "\n".join(line[2:] for line in lines if line.startswith("$ "))
