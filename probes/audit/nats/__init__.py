"""What NATS JetStream says was written."""
