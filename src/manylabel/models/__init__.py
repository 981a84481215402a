"""From images to logits: a timm backbone, a head on top, and the one sigmoid outside the losses."""
