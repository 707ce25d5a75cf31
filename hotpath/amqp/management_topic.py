"""Management of a topic: messages that enter it later."""

from typing import Final

from hotpath.amqp.conditions import MESSAGE_NOT_FOUND, Condition, Refused
from hotpath.amqp.context import Context
from hotpath.amqp.management_fields import Body, Operation, read_items, read_numbers, refuse
from hotpath.model.errors import TooLarge, Unsupported
from hotpath.model.names import Topic, TopicKey
from hotpath.wire.jsonbody import split_array
from hotpath.wire.message import due_ms, normalise
from hotpath.wire.types import Array, WireError

VIA: Final = "amqp"
_LONG: Final = 0x81


class TopicOperations:
    """What may be asked of one topic."""

    def __init__(self, context: Context, topic: TopicKey) -> None:
        self._context = context
        self._topic = topic

    def by_name(self) -> dict[str, Operation]:
        """From the names of operations to them."""
        return {
            "schedule-message": self.schedule,
            "cancel-scheduled-message": self.cancel,
        }

    async def schedule(self, body: Body) -> object:
        """`schedule-message`: keep messages until they are due; the numbers that name them."""
        if self._topic.topic is Topic.POINTS:
            raise Unsupported("a value of a point cannot be scheduled")
        messages = [self._read(item) for item in read_items(body, "messages")]
        await self._context.publishing.wait_for_room()
        numbers = await self._context.scheduling.keep(self._topic, messages)
        published = self._context.metrics.messages_published
        published.labels(self._topic.topic.value, VIA).inc(len(numbers))
        return {"sequence-numbers": Array(_LONG, tuple(numbers))}

    def _read(self, item: object) -> tuple[bytes, int]:
        """A message and when it is due. Raises Invalid, TooLarge."""
        raw = item.get("message") if isinstance(item, dict) else None
        if not isinstance(raw, bytes):
            raise refuse("each of `messages` is a map with an encoded `message`")
        limit = self._context.settings.max_message_bytes
        if len(raw) > limit:
            raise TooLarge(f"a message is at most {limit} bytes", limit_bytes=limit)
        try:
            stored = normalise(raw)
            if split_array(stored, self._context.settings.max_array_elements) is not None:
                raise refuse("a JSON array cannot be scheduled: it stands for many messages")
        except WireError as error:
            raise refuse(f"a message cannot be decoded: {error.detail}") from error
        due = due_ms(stored)
        if due is None:
            raise refuse("a message has no x-opt-scheduled-enqueue-time")
        return stored, due

    async def cancel(self, body: Body) -> object:
        """`cancel-scheduled-message`: forget messages that are not due yet, all or none."""
        numbers = read_numbers(body, "sequence-numbers")
        if not await self._context.scheduling.withdraw(self._topic, numbers):
            text = "no scheduled message has this sequence number"
            raise Refused(Condition(MESSAGE_NOT_FOUND, text, {"sequence-numbers": len(numbers)}))
        return None
