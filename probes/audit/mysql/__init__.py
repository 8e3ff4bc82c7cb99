"""What MySQL or MariaDB says was written."""
