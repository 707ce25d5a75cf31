#include "cbs.h"

#include <proton/codec.h>
#include <proton/delivery.h>
#include <proton/disposition.h>
#include <proton/link.h>
#include <proton/message.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

#define REPLY_CREDIT 200
#define TIMEOUT_NS (30 * NS_PER_S)
#define REQUEST_BYTES 4096
#define STATUS_OK 200
#define STATUS_ACCEPTED 202

struct exchange {
    struct peer *peer;
    const struct claim *claims;
    size_t count, asked, answered;
    pn_link_t *requests, *replies;
    pn_message_t *message;
};

static void put_pair(pn_data_t *map, const char *key, const char *value)
{
    pn_data_put_string(map, pn_bytes(strlen(key), key));
    pn_data_put_string(map, pn_bytes(strlen(value), value));
}

static bool encode_request(struct exchange *exchange, const struct claim *claim, char *bytes,
                           size_t *size)
{
    char audience[512];
    pn_message_t *message = exchange->message;
    snprintf(audience, sizeof audience, "amqp://localhost/%s", claim->address);
    pn_message_clear(message);
    pn_data_put_ulong(pn_message_id(message), exchange->asked + 1);
    pn_message_set_address(message, "$cbs");
    pn_message_set_reply_to(message, "$cbs");
    pn_data_t *properties = pn_message_properties(message);
    pn_data_put_map(properties);
    pn_data_enter(properties);
    put_pair(properties, "operation", "put-token");
    put_pair(properties, "type", "servicebus.windows.net:sastoken");
    put_pair(properties, "name", audience);
    pn_data_exit(properties);
    pn_data_put_string(pn_message_body(message), pn_bytes(strlen(claim->token), claim->token));
    return pn_message_encode(message, bytes, size) == 0;
}

static bool fail(struct exchange *exchange, const char *why)
{
    snprintf(exchange->peer->error, sizeof exchange->peer->error, "put-token: %s", why);
    exchange->peer->closed = true;
    return false;
}

static bool send_requests(struct exchange *exchange)
{
    while (exchange->asked < exchange->count && pn_link_credit(exchange->requests) > 0) {
        const struct claim *claim = &exchange->claims[exchange->asked];
        char bytes[REQUEST_BYTES];
        size_t size = sizeof bytes;
        if (claim->token == NULL || claim->token[0] == '\0') {
            exchange->asked++;
            exchange->answered++;
            continue;
        }
        if (!encode_request(exchange, claim, bytes, &size))
            return fail(exchange, "token too long");
        uint64_t tag = exchange->asked++;
        pn_delivery(exchange->requests, pn_dtag((const char *)&tag, sizeof tag));
        pn_link_send(exchange->requests, bytes, size);
        pn_link_advance(exchange->requests);
    }
    return true;
}

static int status_code(pn_message_t *message)
{
    pn_data_t *properties = pn_message_properties(message);
    pn_data_rewind(properties);
    if (!pn_data_next(properties) || pn_data_type(properties) != PN_MAP)
        return 0;
    pn_data_enter(properties);
    while (pn_data_next(properties)) {
        pn_bytes_t key = pn_data_get_string(properties);
        bool wanted = key.size == strlen("status-code") &&
                      memcmp(key.start, "status-code", key.size) == 0;
        if (!pn_data_next(properties))
            return 0;
        if (wanted)
            return pn_data_type(properties) == PN_INT ? pn_data_get_int(properties) : 0;
    }
    return 0;
}

static void take_reply(struct exchange *exchange, pn_delivery_t *delivery)
{
    char bytes[REQUEST_BYTES], why[64];
    ssize_t size = pn_link_recv(exchange->replies, bytes, sizeof bytes);
    int status = 0;
    if (size > 0 && pn_message_decode(exchange->message, bytes, (size_t)size) == 0)
        status = status_code(exchange->message);
    pn_link_advance(exchange->replies);
    pn_delivery_update(delivery, PN_ACCEPTED);
    pn_delivery_settle(delivery);
    pn_link_flow(exchange->replies, 1);
    exchange->answered++;
    if (status != STATUS_OK && status != STATUS_ACCEPTED) {
        snprintf(why, sizeof why, "refused with status %d", status);
        fail(exchange, why);
    }
}

static void take_events(struct exchange *exchange)
{
    pn_event_t *event;
    while ((event = pn_collector_peek(exchange->peer->collector)) != NULL) {
        pn_delivery_t *delivery = pn_event_delivery(event);
        if (pn_event_type(event) == PN_DELIVERY && delivery != NULL) {
            bool reply = pn_delivery_link(delivery) == exchange->replies;
            if (reply && pn_delivery_readable(delivery) && !pn_delivery_partial(delivery))
                take_reply(exchange, delivery);
            else if (!reply && pn_delivery_updated(delivery))
                pn_delivery_settle(delivery);
        } else {
            peer_failed(exchange->peer, event);
        }
        pn_collector_pop(exchange->peer->collector);
    }
}

static void attach(struct exchange *exchange)
{
    exchange->replies = pn_receiver(exchange->peer->session, "cbs-replies");
    exchange->requests = pn_sender(exchange->peer->session, "cbs-requests");
    pn_terminus_set_address(pn_link_source(exchange->replies), "$cbs");
    pn_terminus_set_address(pn_link_target(exchange->replies), "$cbs");
    pn_terminus_set_address(pn_link_source(exchange->requests), "$cbs");
    pn_terminus_set_address(pn_link_target(exchange->requests), "$cbs");
    pn_link_open(exchange->replies);
    pn_link_open(exchange->requests);
    pn_link_flow(exchange->replies, REPLY_CREDIT);
}

bool cbs_put_tokens(struct peer *peer, const struct claim *claims, size_t count)
{
    struct exchange exchange = {.peer = peer, .claims = claims, .count = count};
    int64_t limit = now_ns() + TIMEOUT_NS;
    exchange.message = pn_message();
    attach(&exchange);
    while (!peer->closed && exchange.answered < count) {
        if (now_ns() > limit)
            fail(&exchange, "no answer in time");
        else if (send_requests(&exchange)) {
            peer_flush(peer);
            if (exchange.answered < count)
                peer_wait(peer, NS_PER_S / 2);
            peer_read(peer);
            peer_tick(peer);
        }
        take_events(&exchange);
    }
    pn_message_free(exchange.message);
    return !peer->closed;
}
