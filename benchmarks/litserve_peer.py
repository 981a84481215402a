"""The driver of LitServe, run by its own Python: `litserve_peer.py MODEL.onnx SIZE PORT WORKERS [zmq]`.

The body of a request is the file, as ours takes it: JSON with the image in text would cost it a quarter more. Decoding
takes the scale that is needed, normalising is one multiplication and one addition, and each worker's network has one
thread: what made it fastest on two cores. Annotations are values here: LitServe reads them.
"""

import io
import sys
from typing import Annotated, Any

import litserve
import numpy as np
import onnxruntime
from fastapi import Body
from PIL import Image

MODEL, SIZE, PORT, WORKERS = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])


class Labels(litserve.LitAPI):
    """An image in, probabilities out."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - the signature of LitServe
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> Any:
        image = Image.open(io.BytesIO(request))
        image.draft("RGB", (SIZE, SIZE))
        pixels_HWC = np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float32)
        return np.ascontiguousarray((pixels_HWC / 127.5 - 1.0).transpose(2, 0, 1)[np.newaxis])

    def predict(self, x: Any) -> Any:
        return self.session.run(None, {self.input: x})[0]

    def encode_response(self, output: Any) -> Any:
        return {"probabilities": output[0].tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(
        Labels(), accelerator="cpu", workers_per_device=WORKERS, fast_queue="zmq" in sys.argv, timeout=30
    )
    server.run(host="127.0.0.1", port=PORT, log_level="error", generate_client_file=False)
