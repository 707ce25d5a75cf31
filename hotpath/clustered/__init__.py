"""The composition root of a node of a cluster: the service on NATS JetStream.

Nothing imports it but the command line, and only when a cluster is configured.
"""

from hotpath.clustered.app import ClusterApp

__all__ = ["ClusterApp"]
