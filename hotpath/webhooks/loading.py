"""Getting at an event's stored message when it is sent: from memory, the log, or a dead letter."""

from hotpath.service.streams import Stream
from hotpath.webhooks.context import Context
from hotpath.webhooks.lanes import Event
from hotpath.webhooks.letters import Letters


def in_memory(event: Event) -> bytes | None:
    """The stored message, if it need not be read."""
    batch = event.batch
    if batch is None or batch.payloads is None:
        return None
    return batch.payloads[event.seq - batch.first_seq]


async def load(stream: Stream, event: Event, *, context: Context, letters: Letters) -> bytes | None:
    """Read a stored message; None when it is gone. Raises LogFailure, Unavailable."""
    if event.redriven:
        letter = await letters.load(stream, event.seq)
        return None if letter is None else letter.payload
    batches = await context.topics.load(stream.spec.key, event.seq, bytes_max=1)
    batch = batches[0] if batches else None
    if batch is None or not batch.first_seq <= event.seq < batch.end_seq:
        return None
    return (batch.payloads or ())[event.seq - batch.first_seq]
