"""From images to label sets with numpy, Pillow and onnxruntime alone."""
