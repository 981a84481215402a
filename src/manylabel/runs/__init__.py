"""A whole run: the folder it lives in, and the order of its steps from tables to a bundle and a report."""
