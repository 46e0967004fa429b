"""Finds the cuts of films, and compares them with PySceneDetect's where it is installed.

pip install "scenedetect[opencv-headless]"
python benchmarks/cuts.py bikes.mp4 bbb.mp4
"""

import argparse
import time
from collections.abc import Iterator
from importlib.util import find_spec

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vsr.data.video.cuts import scene_cuts

SMALL = 80, 45  # width and height of the frames that are compared


def small_frames(file: str) -> Iterator[np.ndarray]:
    """Yields the frames of a film, small and grey."""
    reformatter = VideoReformatter()
    with av.open(file) as container:
        for frame in container.decode(video=0):
            yield reformatter.reformat(frame, *SMALL, format="gray").to_ndarray()


def scenedetect_cuts(file: str) -> dict[str, set[int]]:
    """Returns the cuts of PySceneDetect's detectors with their default settings."""
    import scenedetect

    detectors = {"content": scenedetect.ContentDetector(), "adaptive": scenedetect.AdaptiveDetector()}
    return {
        name: {scene[0].frame_num for scene in scenedetect.detect(file, detector)[1:]}
        for name, detector in detectors.items()
    }


def main(words: list[str] | None = None) -> None:
    """Prints a table of the films."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("films", nargs="+", metavar="FILM")
    print("| film | frames | cuts | ms per frame | PySceneDetect: cuts (only ours, only its) |\n|---|---|---|---|---|")
    for file in parser.parse_args(words).films:
        frames = list(small_frames(file))
        start = time.process_time()
        cuts = set(scene_cuts(frames))
        milliseconds = (time.process_time() - start) * 1e3 / max(len(frames), 1)
        others = scenedetect_cuts(file) if find_spec("scenedetect") else {}
        compared = [f"{name} {len(c)} ({len(cuts - c)}, {len(c - cuts)})" for name, c in others.items()]
        print(
            f"| {file} | {len(frames)} | {len(cuts)} | {milliseconds:.3f} | {', '.join(compared) or 'not installed'} |"
        )


if __name__ == "__main__":
    main()
