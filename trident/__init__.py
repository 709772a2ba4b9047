"""The highest layer: the command line, comparison and tables. May import everything below."""
