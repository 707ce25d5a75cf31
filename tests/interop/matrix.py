"""Writes docs/interop.md from the results of a full run."""

from pathlib import Path

from tests.interop.scenarios import DOCUMENTED, IMPLEMENTATIONS, SCENARIOS

_OPENING = """# Interoperability

Written by a full run of `tests/interop`: each scenario was run by each client, as it comes from its project, against
the running service on real sockets. [clients.md](clients.md) says how to connect each of them.

✓ passed · ✗ failed · – the client itself has no means for it (see below) · ○ not run, the client
was not installed
"""
_SIGNS = {"passed": "✓", "failed": "✗", "not run": "○"}


def write(path: Path, results: dict[tuple[str, str], str]) -> None:
    """Write the matrix, and the reasons for what is not supported."""
    names = [implementation.name for implementation in IMPLEMENTATIONS]
    numbers = {name: index for index, name in enumerate(names, 1)}
    lines = [_OPENING, "| | Client |", "| --- | --- |"]
    lines += [f"| {numbers[name]} | {name} |" for name in names]
    lines += ["", "| Scenario | " + " | ".join(str(numbers[name]) for name in names) + " |"]
    lines.append("| --- |" + " :-: |" * len(names))
    for scenario, text in SCENARIOS.items():
        cells = [_cell(each, scenario, results) for each in IMPLEMENTATIONS]
        lines.append(f"| **{scenario}**: {text} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "## What a client does not do",
        "",
        "| Client | Scenario | Why |",
        "| --- | --- | --- |",
    ]
    for each in IMPLEMENTATIONS:
        for scenario, reason in each.unsupported.items():
            lines.append(f"| {each.name} | {scenario} | {reason} |")
    lines += ["", "## Documented and not run", "", "| Client | Why |", "| --- | --- |"]
    lines += [f"| {name} | {reason} |" for name, reason in DOCUMENTED.items()]
    path.write_text("\n".join(lines) + "\n")


def _cell(implementation, scenario: str, results: dict[tuple[str, str], str]) -> str:
    if scenario in implementation.unsupported:
        return "–"
    return _SIGNS[results.get((implementation.name, scenario), "not run")]
