"""A broker of a few lines on Proton's own container: it takes what is sent and gives what it has.

It shares no code with the client under test.
"""

import threading
from collections import deque

from proton import Condition, Delivery, Endpoint, Message, int32
from proton.handlers import MessagingHandler
from proton.reactor import ApplicationEvent, Container, EventInjector


class Peer(MessagingHandler):
    """Runs in a thread of its own; what it saw is in its attributes."""

    def __init__(self):
        super().__init__(auto_accept=False, auto_settle=False, prefetch=0)
        self.port = 0
        self.tokens = []
        self.published = []
        self.outcomes = []
        self.to_deliver = deque()
        self.refuse_attach = None
        self.refuse_tokens = False
        self.reject_bodies = ()
        self.credit = 100
        self._ready = threading.Event()
        self._senders = []
        self._connections = []
        self._injector = EventInjector()
        self._container = Container(self)
        self._container.selectable(self._injector)
        self._thread = threading.Thread(target=self._container.run, daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_):
        self.tell("stop")
        self._thread.join(5)
        assert not self._thread.is_alive()

    @property
    def url(self):
        return f"amqp://127.0.0.1:{self.port}"

    def tell(self, what, subject=None):
        """Do something in the peer's thread: stop, cut, detach, deliver."""
        self._injector.trigger(ApplicationEvent(what, subject=subject))

    def on_start(self, event):
        acceptor = event.container.listen("127.0.0.1:0")
        self._acceptor = acceptor
        self.port = acceptor._selectable._delegate.getsockname()[1]
        self._ready.set()

    def on_stop(self, event):
        self._acceptor.close()
        for connection in self._connections:
            connection.close()
        self._injector.close()
        self._container.stop()

    def on_cut(self, event):
        """Close all connections as a restart would."""
        for connection in self._connections:
            connection.condition = Condition("amqp:connection:forced", "restarting", {})
            connection.close()
        self._connections.clear()
        self._senders.clear()

    def on_detach(self, event):
        """Detach the feeds with the condition that `subject` names."""
        for sender in self._senders:
            sender.condition = Condition(event.subject, "told to", {})
            sender.close()
        self._senders.clear()

    def on_deliver(self, event):
        for sender in self._senders:
            self._send(sender)

    def on_connection_opening(self, event):
        self._connections.append(event.connection)

    def on_link_opening(self, event):
        link = event.link
        link.source.copy(link.remote_source)
        link.target.copy(link.remote_target)
        address = link.remote_source.address if link.is_sender else link.remote_target.address
        if self.refuse_attach and address != "$cbs":
            return
        if link.is_receiver:
            link.flow(self.credit)
        elif address == "$cbs":
            self._cbs = link
        else:
            self._senders.append(link)

    def on_link_opened(self, event):
        """An attach is refused by a detach behind the answer (amqp-core-transport §2.6.3)."""
        link = event.link
        address = link.remote_source.address if link.is_sender else link.remote_target.address
        if self.refuse_attach and address != "$cbs":
            link.condition = Condition(self.refuse_attach, "not for you", {})
            link.close()

    def on_sendable(self, event):
        if event.link in self._senders:
            self._send(event.link)

    def _send(self, sender):
        while sender.credit > 0 and self.to_deliver and sender.state & Endpoint.LOCAL_ACTIVE:
            sender.send(self.to_deliver.popleft())

    def on_message(self, event):
        if event.link.remote_target.address == "$cbs":
            self._answer(event)
            return
        body = event.message.body
        body = bytes(body) if isinstance(body, memoryview) else body
        event.link.flow(1)
        if body in self.reject_bodies:
            event.delivery.local.condition = Condition("amqp:invalid-field", "no good", {})
            event.delivery.update(Delivery.REJECTED)
        else:
            self.published.append((event.message.properties, body))
            event.delivery.update(Delivery.ACCEPTED)
        event.delivery.settle()

    def _answer(self, event):
        request = event.message
        event.link.flow(1)
        self.tokens.append((request.properties["name"], request.body, request.properties["type"]))
        event.delivery.update(Delivery.ACCEPTED)
        event.delivery.settle()
        status = 401 if self.refuse_tokens else 202
        properties = {"status-code": int32(status), "status-description": "as you wish"}
        self._cbs.send(Message(correlation_id=request.id, properties=properties))

    def on_accepted(self, event):
        if event.link in self._senders:
            self.outcomes.append("accepted")

    def on_released(self, event):
        self.outcomes.append("released")
