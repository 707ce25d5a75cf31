"""A client of the service: REST calls, feeds and publishing over AMQP 1.0.

It is what the command line is made of; applications use any AMQP 1.0 client. `rest` has the calls,
`feed` receives, `publisher` sends; below them `session` keeps a connection, `connection` carries
bytes, `engine` and `links` drive Proton.
"""
