"""Random changes to training images that leave their labels true."""
