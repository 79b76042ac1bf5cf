"""What meets the world: image files, preprocessing, model files, ONNX graphs, tiles, pictures."""
