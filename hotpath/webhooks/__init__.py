"""Webhook streams: an edge like `amqp`, whose receivers are HTTPS endpoints."""
