"""A model over HTTP: bounded, drained, and safe to leave running on a machine with a browser."""
