"""The benchmark of the animation: both ways make an animation of the same epochs."""

import imageio.v3 as imageio

from benchmarks.rendering import animate, animate_by_matplotlib, epoch_samples
from dcgan.images import frame_schedule


def test_both_ways_animate_the_same_epochs(tmp_path):
    """Each way's file has the frames that the schedule keeps."""
    samples = epoch_samples(3)
    for way in (animate, animate_by_matplotlib):
        assert len(imageio.imread(way(samples, tmp_path), index=None)) == len(frame_schedule(3))
