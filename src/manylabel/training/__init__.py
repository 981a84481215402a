"""From Annotations to trained weights: data loading, the loop on one page, and everything a run keeps."""
