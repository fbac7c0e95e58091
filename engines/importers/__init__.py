"""Weights in other formats than ONNX become ONNX models."""
