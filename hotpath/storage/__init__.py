"""Adapters of the message log and the record store: in memory, and on SQLite."""
