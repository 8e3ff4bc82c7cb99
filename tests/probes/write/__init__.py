"""Write probes against stores that refuse, accept, leak, drop and break."""
