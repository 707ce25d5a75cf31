"""Encoded AMQP 1.0 messages as bytes: check, cut, look into and prefix them without decoding.

A message is stored as its publisher sent it. This package turns what came in into that stored
form (`message.normalise`), reads from it what filters name (`properties.Puller`), and puts the
broker's header and annotations in front of it (`message.DeliveryPrefix`). Whatever bytes come in,
the only exception that leaves this package is `values.WireError`; any other is a bug.

Modules: `values` (the types), `decoder`, `encoder`, `scan` (walking without decoding), `types`
(all four in one place), `sections`, `stored`, `normal`, `prefix` (with `message` as their front),
`body`, `properties`, `jsonbody`, `batching`, `deadletter`, `view`.
"""
