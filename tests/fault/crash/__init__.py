"""Kills the whole service, clients at work, at named and at random moments; then checks it.

    python -m tests.fault.crash --points 1000 --seed 1

points   where a run ends, chosen from the seed
child    the service in a process that kills itself at a named point
amqp     an AMQP client on Proton's own engine
rest     the calls of an application
ledger   the model: what was sent, answered, delivered and settled, and what must follow from it
actors   what publishers and receivers have in common
publishers, receivers, control   who is at work when the service is killed
comparing   in the end: drain everything and compare
rounds   run, kill, restart
"""
