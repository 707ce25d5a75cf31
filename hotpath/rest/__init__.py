"""The REST edge: subscriptions, publishers, messages and operations over HTTP."""
