"""Writes through tools of an MCP server."""
