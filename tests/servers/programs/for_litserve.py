"""A server of LitServe, whose requests and answers are its own: `python for_litserve.py PORT MODELS.json`.

`{"image": base64 of a PNG}` is answered by a list of labels and scores, `{"pixels": [...]}` by a list of scores.
"""

import base64
import io
import sys

import litserve
import numpy as np
from PIL import Image
from session import Session, models


class OnnxApi(litserve.LitAPI):
    """The first model of the list."""

    def setup(self, device: str) -> None:
        """Open the file."""
        self.served = models(sys.argv[2])[0]
        self.session = Session(self.served.file)

    # LitServe finds the body by the name of this argument
    def decode_request(self, request: dict) -> tuple[np.ndarray, bool]:
        """Return one row, and whether it came as a picture."""
        if "image" in request:
            picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(request["image"]))))
            planes = picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)
            return planes.astype(np.float32) / np.float32(255), True
        return np.asarray(request["pixels"], dtype=np.float32), False

    def predict(self, asked: tuple[np.ndarray, bool]) -> tuple[np.ndarray, bool]:
        """Answer it."""
        row, picture = asked
        return self.session(row[None])[0], picture

    def encode_response(self, output: tuple[np.ndarray, bool]) -> object:
        """Write the scores, the best first where the request was a picture."""
        scores, picture = output
        if not picture:
            return {"scores": scores.tolist()}
        order = np.argsort(-scores)
        return {"result": [{"label": f"class-{k}", "score": float(scores[k])} for k in order]}


if __name__ == "__main__":
    server = litserve.LitServer(OnnxApi(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
