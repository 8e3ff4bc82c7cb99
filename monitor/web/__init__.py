"""What a running watchdog serves: metrics, health and the gate. Its own thread and loop."""
