"""`python -m manylabel` is the command `manylabel`."""

from manylabel.cli.main import run

if __name__ == "__main__":
    run()
