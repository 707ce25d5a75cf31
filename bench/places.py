"""Where things that outlive a run are kept."""

import os
from pathlib import Path


def peers_directory() -> Path:
    """Where `bench/peers.sh` puts brokers that no package of this system brings."""
    configured = os.environ.get("HOTPATH_BENCH_PEERS")
    if configured:
        return Path(configured)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "hotpath-bench"
