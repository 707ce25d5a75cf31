"""Many filters, one message: which of them match."""

from qel.index.matcher import FilterIndex
from qel.index.scan import ScanIndex

__all__ = ["FilterIndex", "ScanIndex"]
