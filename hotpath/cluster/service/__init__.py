"""The service on a node of a cluster: what is otherwise than alone on a machine.

Every node knows all definitions (`definitions`) and serves the shards that it owns (`shards`).
Messages come to a topic from the log that all nodes append to, each batch once (`topics`), never
from this node's own commits. What belongs to a shard, and is asked for where it is not, goes to the
shard's owner (`neighbours`).
"""
