"""What becomes of a version, and that one after another is decided."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from tasks.artifacts import publish
from tasks.settings import read_settings

logger = logging.getLogger("dcgan.promote")

Mode = Literal["auto", "manual"]


class Promotion(BaseModel):
    """What became of a version.

    Attributes:
        version: its number.
        promoted: whether it is the champion now.
        reason: why, in words.
        figures: quality/NAME and judge/NAME; empty where nothing was evaluated.
    """

    model_config = ConfigDict(frozen=True)

    version: int
    promoted: bool
    reason: str
    figures: dict[str, float] = {}

    @classmethod
    def unevaluated(cls, version: int, recipe: str) -> Self:
        """Return what becomes of a version whose recipe asks for no evaluation."""
        reason = f"The recipe {recipe} is not evaluated, so what it trains is never promoted by itself."
        return cls(version=version, promoted=False, reason=reason)

    def told(self) -> Self:
        """Log what became of the version, show it in Prefect, and return this."""
        logger.info(self.reason)
        publish(self.reason, "promotion", f"What became of version {self.version}")
        return self


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Let one evaluation with its promotion happen after another on this machine, each beside the champion of then.

    Promotions from other machines are noticed when an alias is about to move.
    """
    root = read_settings().root
    root.mkdir(parents=True, exist_ok=True)
    with (root / "promotion.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("Waiting for another process that evaluates or promotes a version.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
