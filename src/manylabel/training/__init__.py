"""From Annotations to trained weights: data loading, the loop on one page, and everything a run keeps."""

import os

# Torch's threads wait by spinning unless told otherwise before torch is first imported: they then take the cores from
# the processes that decode images (measured beside other work: 79 images/s spinning, 287 sleeping; same weights). A
# short spin spares them falling asleep between two operations of a step, which costs a tenth of it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
