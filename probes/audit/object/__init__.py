"""What an S3-compatible store says was written."""
