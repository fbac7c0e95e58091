"""An ONNX file goes in, a running model comes out. Knows no frames, threads or faces: arrays in, arrays out."""
