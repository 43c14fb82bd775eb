"""A measured process's side of the conversation. Standard library only: PyTorch's environment has nothing else.

The process makes its training, runs a few steps to warm up, and says `{"versions": ...}` on a line. Then it reads lines
with a number of steps, takes them, and answers each with `{"seconds": ..., "processor_seconds": ..., "peak_memory_mb":
...}`.
"""

import json
import resource
import sys
import time
from collections.abc import Callable

WARM_UP_STEPS = 3


def serve(make: Callable[..., Callable[[int], None]], versions: dict[str, str]) -> None:
    """Answer until the end of the input.

    Args:
        make: takes the batch size, and what else the command line holds, and returns a function that takes so many
            steps, all of them done when it returns.
        versions: of the packages that compute.
    """
    batch_size, *rest = sys.argv[1:]
    run = make(int(batch_size), *rest)
    run(WARM_UP_STEPS)
    _say({"versions": versions})
    for line in sys.stdin:
        began, processor_began = time.perf_counter(), time.process_time()
        run(int(line))
        _say(
            {
                "seconds": time.perf_counter() - began,
                "processor_seconds": time.process_time() - processor_began,
                "peak_memory_mb": _peak_memory_mb(),
            }
        )


def _peak_memory_mb() -> float:
    """Return the most memory that this process has held, in MB (10⁶ bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def _say(answer: dict[str, object]) -> None:
    print(json.dumps(answer), flush=True)
