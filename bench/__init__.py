"""Speed and memory, measured in one run: `make bench`. Loads nothing but loopback, and ends by itself."""
