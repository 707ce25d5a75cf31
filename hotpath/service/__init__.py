"""A message's way, in short files to read in this order: publish, commit, deliver, settle.

`admin` creates and ends subscriptions, `access` turns tokens into rights, `topics` holds the live
state of each log, `replay` feeds subscriptions that are behind. All of it runs in the event loop;
a function reads state, calls the core to the end, then waits for the log. Edges are woken and
then pull; nothing in here knows what an edge is made of.
"""
