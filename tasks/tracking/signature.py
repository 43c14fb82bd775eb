"""What a registered generator is in MLflow's terms: its signature, its file, and the tag with that file's digest."""

import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

from dcgan.recipe import IMAGE_SHAPE, LATENT_SIZE

SIGNATURE = ModelSignature(
    inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, LATENT_SIZE))]),
    outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, *IMAGE_SHAPE))]),
)
KERAS_FILE = "data/model.keras"  # where MLflow's Keras flavor puts it
MODEL_SHA256 = "dcgan.model_sha256"
