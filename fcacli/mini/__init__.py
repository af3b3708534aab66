"""The bundled miniature: a procedural world, a toy dataset drawn from it, and a small text-to-video base trained on it."""
