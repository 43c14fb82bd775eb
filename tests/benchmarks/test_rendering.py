"""The animation's benchmark: both ways make an animation of the same epochs."""

import imageio.v3 as imageio

from benchmarks.rendering import animate, animate_by_matplotlib, epoch_pictures
from dcgan.rendering import frame_schedule


def test_both_ways_animate_the_same_epochs(tmp_path):
    """Each way's file has the frames that the schedule keeps."""
    pictures = epoch_pictures(3)
    for way in (animate, animate_by_matplotlib):
        assert len(imageio.imread(way(pictures, tmp_path), index=None)) == len(frame_schedule(3))
