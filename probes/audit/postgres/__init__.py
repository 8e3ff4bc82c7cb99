"""What PostgreSQL says was written."""
