"""TensorFlow's import without the lines that its libraries write before their log level applies, and without bars."""

import os
import sys
from pathlib import Path


def import_tensorflow() -> None:
    """Import TensorFlow with the process's standard error turned away; an import that fails raises as ever.

    Keras shows a progress bar for every `predict`, which a log has no use for.
    """
    if "tensorflow" in sys.modules:
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            import keras
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    keras.config.disable_interactive_logging()
