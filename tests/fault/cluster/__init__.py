"""Kills nodes and servers of a cluster under load, cuts them off, and checks every promise.

    python -m tests.fault.cluster --rounds 200 --seed 1 --report cluster-crash.json

ledger   what was sent, answered, delivered and settled, what must follow, and how long feeds stood
clients  publishers and receivers, spread over the nodes, that come again elsewhere when they are cut
faults   what happens in a round
journal  the log of settlements, read beside the nodes: who settled what, and as whose shard
rounds   the load, the faults, and in the end the comparison
"""
