"""Many filters, one message: which of them match."""

from qel.index.scan import ScanIndex

FilterIndex = ScanIndex

__all__ = ["FilterIndex", "ScanIndex"]
