"""Ways to compute a bundle's model: eager torch, ONNX Runtime, a CUDA graph, TensorRT."""
