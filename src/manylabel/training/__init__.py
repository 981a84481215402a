"""From Annotations to trained weights: data loading, the loop on one page, and everything a run keeps."""

import os

# Torch's threads wait by spinning unless told otherwise before torch is first imported: they then take the cores from
# the processes that decode images (measured beside other work: 79 images/s spinning, 287 sleeping; same weights).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
