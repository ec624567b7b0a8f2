"""ONNX files: read, asked through onnxruntime, converted to torch for gradients, and the two compared."""
