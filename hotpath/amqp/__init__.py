"""The AMQP 1.0 edge: bytes from peers on one side, the service on the other.

Read in this order: `listener` (sockets), `connection` (the shell of one connection), `sasl` (what
comes before AMQP), `gate` (frames on their way in), `engine` and `capi` (Proton, without IO),
`ends` (the hot loops, and what is open), `outcomes` (what receivers say), `attaching` (rights,
addresses, which link end), `ingress` and `egress` (the two hot paths), `cbs` (tokens). No Proton
object leaves this package, and no byte sequence from a peer ends more than its own connection.
"""
