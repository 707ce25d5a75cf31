"""The table of all operations: what the server mounts and what `/openapi.json` documents."""

from typing import Final

from hotpath.auth.rights import Permission
from hotpath.model.names import SUBSCRIBABLE, Topic
from hotpath.rest.calls import Guard, Route
from hotpath.rest.health import reap, show_health, show_metrics, show_readiness
from hotpath.rest.keys import add_key, list_keys, remove_key, retire_key
from hotpath.rest.look import (
    explain_filter,
    list_messages,
    list_topics,
    show_fate,
    show_session,
)
from hotpath.rest.messages import publish_messages
from hotpath.rest.publishers import delete_publisher, open_publisher
from hotpath.rest.qel import check_filter
from hotpath.rest.subscriptions import (
    create_subscription,
    delete_subscription,
    list_subscriptions,
    renew_token,
    revoke_tokens,
    show_subscription,
)
from hotpath.rest.tail import list_feed

_ONE: Final = "/subscriptions/{type}/{subscriptionId}"
_SUBSCRIBE: Final = Permission.SUBSCRIBE
_PUBLISH: Final = Permission.PUBLISH

ROUTES: Final = (
    Route(
        "POST",
        "/subscriptions/{type}",
        "createSubscription",
        create_subscription,
        Guard.CONTROL,
        _SUBSCRIBE,
        SUBSCRIBABLE,
    ),
    Route("PUT", _ONE, "renewToken", renew_token, Guard.CONTROL, _SUBSCRIBE, SUBSCRIBABLE),
    Route(
        "DELETE",
        _ONE,
        "deleteSubscription",
        delete_subscription,
        Guard.CONTROL,
        _SUBSCRIBE,
        SUBSCRIBABLE,
    ),
    Route(
        "POST",
        f"{_ONE}/revoke",
        "revokeTokens",
        revoke_tokens,
        Guard.CONTROL,
        _SUBSCRIBE,
        SUBSCRIBABLE,
    ),
    Route(
        "GET", _ONE, "showSubscription", show_subscription, Guard.CONTROL, _SUBSCRIBE, SUBSCRIBABLE
    ),
    Route(
        "GET", "/subscriptions", "listSubscriptions", list_subscriptions, Guard.CONTROL, _SUBSCRIBE
    ),
    Route(
        "GET",
        f"{_ONE}/messages",
        "listFeed",
        list_feed,
        Guard.CONTROL,
        _SUBSCRIBE,
        SUBSCRIBABLE,
    ),
    Route(
        "GET",
        f"{_ONE}/messages/{{sequenceNumber}}",
        "showFate",
        show_fate,
        Guard.CONTROL,
        _SUBSCRIBE,
        SUBSCRIBABLE,
    ),
    Route("GET", "/me", "showSession", show_session, Guard.CONTROL, _SUBSCRIBE),
    Route("GET", "/topics", "listTopics", list_topics, Guard.CONTROL, _SUBSCRIBE),
    Route(
        "GET",
        "/topics/{type}/messages",
        "listMessages",
        list_messages,
        Guard.CONTROL,
        _SUBSCRIBE,
        SUBSCRIBABLE,
    ),
    Route(
        "POST",
        "/topics/{type}/explain",
        "explainFilter",
        explain_filter,
        Guard.CONTROL,
        _SUBSCRIBE,
        SUBSCRIBABLE,
    ),
    # A publisher may also be for `points`, whose messages come over AMQP alone.
    Route(
        "POST",
        "/publishers/{type}",
        "openPublisher",
        open_publisher,
        Guard.CONTROL,
        _PUBLISH,
        tuple(Topic),
    ),
    Route(
        "DELETE",
        "/publishers/{type}/{publisherId}",
        "deletePublisher",
        delete_publisher,
        Guard.CONTROL,
        _PUBLISH,
        tuple(Topic),
    ),
    Route(
        "POST",
        "/messages/{type}",
        "publishMessages",
        publish_messages,
        Guard.FLOW,
        _PUBLISH,
        SUBSCRIBABLE,
    ),
    Route("POST", "/qel/check", "checkFilter", check_filter, Guard.CONTROL, _SUBSCRIBE),
    Route("POST", "/admin/reap", "reap", reap, Guard.CONTROL, Permission.ADMIN),
    Route("GET", "/admin/keys", "listKeys", list_keys, Guard.CONTROL, Permission.ADMIN),
    Route("POST", "/admin/keys", "addKey", add_key, Guard.CONTROL, Permission.ADMIN),
    Route(
        "POST",
        "/admin/keys/{name}/retire",
        "retireKey",
        retire_key,
        Guard.CONTROL,
        Permission.ADMIN,
    ),
    Route("DELETE", "/admin/keys/{name}", "removeKey", remove_key, Guard.CONTROL, Permission.ADMIN),
    Route("GET", "/healthz", "showHealth", show_health, Guard.OPEN),
    Route("GET", "/readyz", "showReadiness", show_readiness, Guard.OPEN),
)

#: Left out when metrics have an address of their own.
METRICS_ROUTE: Final = Route("GET", "/metrics", "showMetrics", show_metrics, Guard.OPEN)
OPENAPI_PATH: Final = "/openapi.json"
