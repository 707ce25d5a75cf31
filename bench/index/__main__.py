"""Entry point of ``python -m bench.index``."""

from bench.index.cli import main

raise SystemExit(main())
