"""Which moments to kill which training at, drawn from a seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.chaos_moments import AIMS, MILESTONES, Moment


@dataclass(frozen=True)
class Kill:
    """A kill that is planned: when, and whether the training's Prefect server dies at the same time."""

    moment: Moment
    server_too: bool

    @property
    def name(self) -> str:
        """The moment as a reader is told it."""
        after = f"{self.moment.delay:.2f} s after: " if self.moment.delay else ""
        return f"{after}{self.moment.name}{', server too' if self.server_too else ''}"

    def sooner(self, attempt: int) -> "Kill":
        """Return the same kill with half the delay for each earlier attempt, at which the training was faster."""
        return replace(self, moment=replace(self.moment, delay=self.moment.delay / 2**attempt))


def plans(seed: int, runs: int, timeline: list[float]) -> Iterator[list[Kill]]:
    """Yield the kills of every run.

    Every second run is killed at a moment that is aimed at, the others at any time that the reference had; two of five
    are killed again after they were continued.

    Args:
        seed: of all draws.
        runs: how many.
        timeline: when the reference reached each milestone and its end, in seconds.
    """
    draw = random.Random(seed)  # noqa: S311 - moments, not secrets
    aims = draw.sample(range(len(AIMS)), len(AIMS))
    for number in range(runs):
        twice = number % 5 in (1, 2)
        if number % 2:
            moments = [_any_moment(draw, timeline) for _ in range(1 + twice)]
        else:
            moments = _aimed(draw, aims[number // 2 % len(aims)], twice=twice)
        yield [Kill(moment, server_too=draw.random() < 0.5) for moment in moments]


def _aimed(draw: random.Random, first: int, *, twice: bool) -> list[Moment]:
    """Return an aim, and a later one when there are to be two: what the first left must not be taken for the second."""
    later = AIMS[first + 1 :]
    return [AIMS[first], draw.choice(later)] if twice and later else [AIMS[first]]


def _any_moment(draw: random.Random, timeline: list[float]) -> Moment:
    """Return a time of the reference, told by the last milestone before it and a delay."""
    at = draw.uniform(0, timeline[-1])
    index = sum(reached <= at for reached in timeline[1:-1])
    return replace(MILESTONES[index], passes=False, delay=at - timeline[index])
