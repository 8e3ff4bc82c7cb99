"""One Report value, and the forms it takes: JSON for machines, one HTML page for people."""
