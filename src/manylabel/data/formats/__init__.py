"""Layouts of labels on disk, one file each; `detect.py` finds which one it is."""
