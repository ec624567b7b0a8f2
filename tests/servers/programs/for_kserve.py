"""A server of KServe: `python for_kserve.py PORT MODELS.json`."""

import sys

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.protocol.rest.server import RESTServer
from kserve.utils.utils import generate_uuid
from session import Served, Session, models


class OnnxModel(Model):
    """An ONNX file, by version 2 of the protocol or by version 1."""

    def __init__(self, served: Served) -> None:
        super().__init__(served.name)
        self.served = served
        self.session = Session(served.file)
        self.ready = True

    async def get_input_types(self) -> list[dict]:
        """Say what goes in."""
        return [{"name": self.served.input, "datatype": self.served.datatype, "shape": [-1, *self.served.shape]}]

    async def get_output_types(self) -> list[dict]:
        """Say what comes out."""
        return [{"name": self.served.output, "datatype": "FP32", "shape": [-1, self.served.classes]}]

    async def predict(self, payload, headers=None, response_headers=None):
        """Answer a batch."""
        if not isinstance(payload, InferRequest):
            rows = np.asarray(payload["instances"], dtype=self.served.dtype)
            return {"predictions": self.session(rows).tolist()}
        scores = self.session(payload.inputs[0].as_numpy())
        output = InferOutput(name=self.served.output, shape=list(scores.shape), datatype="FP32")
        output.set_data_from_numpy(scores, binary_data=payload.use_binary_outputs)
        return InferResponse(
            model_name=self.name,
            infer_outputs=[output],
            response_id=payload.id or generate_uuid(),
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )


def on_loopback(server: RESTServer, *given, start=RESTServer.__init__, **named) -> None:
    """Listen on this machine alone: KServe listens on all addresses, and has no setting for it."""
    start(server, *given, **named)
    server.config.host = "127.0.0.1"


if __name__ == "__main__":
    RESTServer.__init__ = on_loopback
    served = [OnnxModel(one) for one in models(sys.argv[2])]
    ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1).start(served)
