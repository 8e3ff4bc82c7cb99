"""What each command does. `monitor.cli` declares them and imports from here when one is used."""
