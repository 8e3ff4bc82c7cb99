"""Writes to RabbitMQ."""
