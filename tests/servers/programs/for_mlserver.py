"""A model of MLServer, written as its documentation does: `mlserver start FOLDER` with this file on PYTHONPATH."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from session import Session


class OnnxModel(MLModel):
    """An ONNX file; `parameters.uri` says which."""

    async def load(self) -> bool:
        """Open the file."""
        self.session = Session(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answer a batch."""
        rows = NumpyCodec.decode_input(payload.inputs[0])
        scores = NumpyCodec.encode_output(self.settings.outputs[0].name, self.session(rows))
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=[scores])
