"""`python -m monitor` is `freezewatch`."""

from monitor.cli import main

main()
