"""What pyproject.toml cannot say: the C helper, which is left out where it cannot be compiled."""

from setuptools import Extension, setup

_PARTS = (
    "module",
    "wire",
    "batch",
    "puller",
    "handles",
    "open",
    "frames",
    "traffic",
    "inlet",
    "outlet",
    "ends",
    "layout",
    "offering",
    "pumping",
    "completing",
    "progress",
)

setup(
    ext_modules=[
        Extension(
            "hotpath.native._native",
            sources=[f"hotpath/native/{part}.c" for part in _PARTS],
            depends=[
                f"hotpath/native/{part}.h"
                for part in ("native", "proton", "open", "frames", "ends", "layout", "names")
            ],
            extra_compile_args=["-O3", "-std=c11", "-Wall", "-Wextra"],
            # Without a compiler the installation goes on, and the pure Python code does it all.
            optional=True,
        )
    ]
)
