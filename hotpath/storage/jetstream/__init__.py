"""Log, records and coordination on NATS JetStream; imported by a clustered service alone."""
