"""What a stock Proton client does with a feed: publish, read it empty, attach and be refused."""

import json

from proton import ConnectionException, Message
from proton.utils import LinkDetached

from tests.support.process import access_of, amqp_connection

UNAUTHORIZED = "amqp:unauthorized-access"


def over_amqp(server, tenant, messages):
    token = server.token(tenant=tenant)
    publisher = access_of(server.call("POST", "/publishers/variables", token=token))
    with amqp_connection(publisher.host, publisher.token) as connection:
        sender = connection.create_sender(publisher.address)
        for message in messages:
            sender.send(message)


def receive_all(access):
    """Everything there is now: credit, and a drain that tells when there is no more."""
    found = []
    with amqp_connection(access.host, access.token) as connection:
        receiver = connection.create_receiver(access.address)
        receiver.link.drain(1000)
        connection.wait(lambda: receiver.link.credit == 0, timeout=10)
        while receiver.fetcher.has_message:
            found.append(receiver.receive(timeout=1))
            receiver.accept()
    return found


def sequence_numbers(messages):
    return [message.annotations["x-opt-sequence-number"] for message in messages]


def quality_of(message):
    properties = message.properties or {}
    if "quality" in properties:
        return properties["quality"]
    return json.loads(bytes_of(message.body))["quality"]


def bytes_of(body):
    return body.encode() if isinstance(body, str) else bytes(body)


def put_token(connection, token, audience):
    """Through `$cbs`; the status code and condition of the reply."""
    receiver = connection.create_receiver("$cbs", credit=1)
    sender = connection.create_sender("$cbs")
    request = Message(
        id="1",
        reply_to=receiver.link.name,
        properties={
            "operation": "put-token",
            "type": "servicebus.windows.net:sastoken",
            "name": audience,
        },
        body=token,
    )
    sender.send(request)
    reply = receiver.receive(timeout=5)
    receiver.close()
    sender.close()
    return reply.properties["status-code"], str(reply.properties.get("error-condition", ""))


def attach_by_cbs(access, token, address):
    """Put a token for its own subscription, then attach to an address: None, or the condition."""
    with amqp_connection(access.host, None) as connection:
        status, condition = put_token(connection, token, access.url)
        if status not in (200, 202):
            return condition
        try:
            connection.create_receiver(address).close()
        except LinkDetached as error:
            return error.condition
    return None


def attach_by_password(access, token, address):
    """The same by SASL PLAIN."""
    try:
        with amqp_connection(access.host, token) as connection:
            connection.create_receiver(address).close()
    except LinkDetached as error:
        return error.condition
    except ConnectionException as error:
        return UNAUTHORIZED if "Authentication failed" in str(error) else str(error)
    return None


def elsewhere(access, server):
    """A feed as its owner knows it, at the address that the server has now."""
    return type(access)(access.id, f"{server.urls['amqp']}/{access.address}", access.token)
