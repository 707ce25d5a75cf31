"""hotpath: a filtered, live feed of industrial data, opened with one REST call."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("hotpath")
except PackageNotFoundError:  # imported from a tree that was never installed
    __version__ = "0+unknown"
