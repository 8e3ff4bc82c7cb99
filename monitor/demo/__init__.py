"""The demo: a small real service to freeze, to break and to watch. Imports nothing by itself."""
