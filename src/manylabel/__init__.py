"""Multi-label image classification: from a table and a folder of images to a model that decides, reports and ships."""

__version__ = "0.1.0"
