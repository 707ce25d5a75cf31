"""Benchmarks: C load clients against hotpath and against other brokers on the same machine.

``python -m bench --help`` lists the commands; ``bench/README.md`` explains how to read the numbers.
"""
