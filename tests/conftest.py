"""Fixtures that several folders share: real servers of the tests' own."""

pytest_plugins = ["tests.servers.fixtures"]
