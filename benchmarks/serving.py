"""A measured process's side of the conversation. Standard library only: PyTorch's environment has nothing else.

The process makes its training, runs a few steps to warm up, and says `{"versions": ...}` on a line. Then it reads lines
with a number of steps, takes them, and answers each with `{"seconds": ..., "processor_seconds": ...}`.
"""

import json
import sys
import time
from collections.abc import Callable

WARM_UP_STEPS = 3


def serve(make: Callable[[int], Callable[[int], None]], versions: dict[str, str]) -> None:
    """Answer until the end of the input.

    Args:
        make: takes the batch size and returns a function that takes so many steps, all of them done when it returns.
        versions: of the packages that compute.
    """
    run = make(int(sys.argv[1]))
    run(WARM_UP_STEPS)
    _say({"versions": versions})
    for line in sys.stdin:
        began, processor_began = time.perf_counter(), time.process_time()
        run(int(line))
        _say({"seconds": time.perf_counter() - began, "processor_seconds": time.process_time() - processor_began})


def _say(answer: dict[str, object]) -> None:
    print(json.dumps(answer), flush=True)
