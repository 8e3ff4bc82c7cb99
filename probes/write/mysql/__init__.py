"""Writes to MySQL and MariaDB."""
