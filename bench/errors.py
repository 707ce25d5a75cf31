"""What can go wrong in a benchmark run.

BenchError
├── UsageError      a wrong option; nothing was started
└── RunError        a broker or client did not start, or ended badly
"""


class BenchError(Exception):
    """Any failure that ends a benchmark with one line instead of a trace."""


class UsageError(BenchError):
    """The options do not describe a run that is possible."""


class RunError(BenchError):
    """A child did not start, did not answer in time, or reported an error."""
