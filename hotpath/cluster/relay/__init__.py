"""What nodes ask each other, so that any of them serves any client.

A receiver that is attached to one node may belong to a subscription that another one owns. The
*asking* node then takes from the *owner* with credit, and hands outcomes on to it; the client does
not know the difference. The owner treats such a receiver as one more of its own, so receivers on
several nodes compete as they do on one.

Transport. Each run of a node listens on `<prefix>.node.<id>.<run>`, and for answers on
`<prefix>.back.<id>.<run>.*`. A call is sent again until it is answered or its time is over; the
one who is called remembers its answers until the caller tells that it has them (each call
names the answers that have come since the one before), so a call takes effect once at most
(`calls`). What is larger than NATS takes in one message goes in parts. NATS
says who may use these subjects; there is no other authentication.

Calls, each from the asking node to the owner:

    ATTACH   subscription, dead letters or not, lock or not        → link
    TAKE     link, credit, bytes                                   → messages, more?, busy?, wakes
    SETTLE   link, outcomes (of a management link: one for all)    → those that were refused
    DETACH   link                                                  → (what it had goes back)
    PING     all links of this node to that one                    → wakes of those that are there
    PEEK, RECEIVE, RENEW   what management links ask
    ASK      a name and a question: calls about subscriptions that need their live state

and told without an answer, from the owner to the asking node:

    WAKE     links that may have something to take, each with how often it was woken
    CLOSED   links that have ended, each with whether its subscription is gone for good

`wakes` counts up. The asking node takes when it has credit and the latest count it has heard is
above the one in the last answer to TAKE, or when that answer said that there is more; so a WAKE
that is lost, late, early or repeated does no harm, and PING brings the counts again.

SETTLE is answered when everything in it is durable. Until then the client's outcome is not
confirmed; when the owner is lost, or says no, it is not confirmed at all.

A link ends with its client, with its owner's claim to the subscription, with its subscription, and
when either node does not hear of the other for some seconds. Then the client's link is detached
with an error that tells it to come again, and what it held goes back. Management links and calls of
REST look anew at each request who the owner is, and wait while the subscription moves.

Versions. Each message begins with the version of this protocol. A node answers a call of another
version, or one that it does not know, with the error `unsupported`; bodies are lists whose further
items are passed over, so that a later release can add to them.
"""
