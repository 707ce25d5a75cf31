"""Log and record store in one SQLite file: see docs/adr/0002-sqlite-log.md.

connection   how the file is opened, and what its errors mean
directory    the data directory, held by one process
migrations   the schema, forward only
encoding     bytes and checksums
writer       the thread that owns the only writing connection; group commit
appending    a group of commits as few statements
checkpoint   moving the write-ahead log into the file without delaying commits
reading      batches, times and dead letters on read-only connections
recovery     what is known at the opening
log, store   the two ports
backup       a copy of the file while it is in use
"""
