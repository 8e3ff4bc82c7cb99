"""Real servers on 127.0.0.1, started by the tests that need them and gone when these end."""
