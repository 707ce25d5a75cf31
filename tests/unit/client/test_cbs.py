"""The put-token request as a peer decodes it."""

from proton import Message, symbol

from hotpath.client.cbs import put_token_request


def decoded(**arguments):
    message = Message()
    message.decode(put_token_request(7, **arguments))
    return message


def test_request_names_operation_audience_and_reply():
    message = decoded(audience="amqp://h:5672/variables", token="SharedAccessSignature sr=a")

    assert message.id == 7
    assert (message.address, message.reply_to) == ("$cbs", "$cbs")
    assert message.properties == {
        "operation": "put-token",
        "type": "servicebus.windows.net:sastoken",
        "name": "amqp://h:5672/variables",
    }
    assert message.body == "SharedAccessSignature sr=a"
    assert not isinstance(message.body, symbol)


def test_other_tokens_are_said_to_be_jwt():
    assert decoded(audience="a", token="x.y.z").properties["type"] == "jwt"
