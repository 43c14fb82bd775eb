"""The deployable flows. They run in this process, or in a Prefect worker's.

Prefect and TensorFlow read their environment when they are imported, so its defaults are set here, before any flow is
loaded.
"""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.settings import set_default_environment

set_default_environment()
# without a level of its own, the library's progress would reach neither Prefect's page nor a worker's log
logging.getLogger("dcgan").setLevel(logging.INFO)


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Discard what libraries write to standard error while the body imports them.

    TensorFlow's C++ libraries write lines before its log level applies. An import that fails raises as usual.
    """
    sys.stderr.flush()
    original = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(original, 2)
            os.close(original)
