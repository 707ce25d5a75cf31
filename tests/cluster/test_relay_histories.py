"""Many clients on both nodes, over a wire that loses and repeats: nothing is lost or undone."""

import os
import random

import pytest

from tests.cluster.relaying import relayed_pair

#: How many histories are played, from seed 0 on.
HISTORIES = int(os.environ.get("RELAY_HISTORIES", "6"))
MESSAGES = 40


class Crowd:
    """Clients that come and go, and what they were told."""

    def __init__(self, pair, subscription, dice):
        self.pair = pair
        self.subscription = subscription
        self.dice = dice
        self.clients = []
        self.confirmed: set[int] = set()

    def act(self):
        """One thing that one client does."""
        here = [client for client in self.clients if not client.is_closed]
        if len(here) < 3 and self.dice.random() < 0.5:
            attach = self.dice.choice((self.pair.client, self.pair.client, self.pair.local))
            self.clients.append(attach(self.subscription, credit=self.dice.randrange(1, 9)))
        elif here:
            client = self.dice.choice(here)
            if client.taken:
                self.settle(client)
            else:
                client.flow(self.dice.randrange(1, 9))
            if self.dice.random() < 0.05:
                client.leave()

    def settle(self, client):
        """Give outcomes to all that a client has."""
        settling, held = client.side.relay.feeds.settling, client.held
        client.taken = []
        completed = []
        for seq, serial in held:
            lot = self.dice.random()
            if lot < 0.7:
                lost = client.complete_runs([(serial, [seq])])
                completed += [] if lost else [(seq, serial)]
            else:
                settling.abandon(*client.where, seq, serial, failed=False)

        def done(refused):
            self.confirmed.update(held[0] for held in completed if held not in refused)

        client.then(done)


@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_every_message_is_settled_once_and_what_was_confirmed_stays_settled(tmp_path, seed):
    dice = random.Random(seed)
    print("seed", seed)
    async with relayed_pair(tmp_path, max_deliveries=100) as pair:
        subscription = await pair.owner.broker.subscribe()
        pair.wire.dice, pair.wire.loss = random.Random(seed + 1), 0.15
        crowd = Crowd(pair, subscription, dice)
        for _ in range(MESSAGES // 4):
            await pair.owner.broker.publish(*range(4))
            for _ in range(4):
                crowd.act()
                await pair.advance(dice.choice((0, 20, 300)))
            settled = set(range(1, MESSAGES + 1)) - open_seqs(pair, subscription)
            assert crowd.confirmed <= settled

        pair.wire.loss = 0.0
        for _ in range(600):
            if subscription.settled_total == MESSAGES:
                break
            crowd.act()
            await pair.advance(100)

        assert subscription.settled_total == MESSAGES
        await pair.advance(2_000)
        assert crowd.confirmed <= set(range(1, MESSAGES + 1))
        assert subscription.delivered_total >= MESSAGES


def open_seqs(pair, subscription):
    """What is published and not settled durably, or not published yet."""
    end = pair.owner.core.topics.get(subscription.spec.key).routed_to
    waiting = set(subscription.unsettled_from(0, limit=1_000))
    return waiting | set(range(end, MESSAGES + 1))
