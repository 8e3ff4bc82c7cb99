"""What Redis says was written."""
