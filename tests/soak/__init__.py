"""Everything at once for half an hour, with faults, against the real process; then all is counted.

    python -m tests.soak --seconds 1800 --seed 1        make soak SECONDS=1800

service   the process: killed, started again, its disk full and empty again, its memory and files
actors    clients that the crash harness has not: slow, silent, leaving, renewing, Service Bus
chapter   one tenant: everybody at work, faults, then quiet, drained and compared with the ledger
run       chapter after chapter, what the process took meanwhile, what its log says

The model that decides what is lost is that of the crash harness (`tests/fault/crash/ledger.py`).
"""
