"""What RabbitMQ says was written."""
