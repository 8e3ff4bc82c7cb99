"""The JSON schemas of what is printed for machines, one file each; `freezewatch schema NAME` prints them."""
