"""Ways to look on while a window is watched: a live screen, plain lines, JSON lines."""
