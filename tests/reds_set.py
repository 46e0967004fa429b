"""A small set in REDS's layout, for tests of its samples and files."""

import cv2
import numpy as np

from vsr.data import REDSDataset

SMALL = {"gt_size": 32, "num_frame": 3, "val_partition": "none"}


def reds(clips, **options):
    return REDSDataset(
        **{"dataroot_gt": clips.gt, "dataroot_lq": clips.lq, "meta_info_file": clips.meta, **SMALL, **options}
    )


def read(root, key):
    return cv2.imread(str(root / f"{key}.png"))[..., ::-1]


def find(part, frame):
    """Returns where ``part`` (c, h, w) in [0, 1] lies in a uint8 frame (h, w, c); None if nowhere."""
    part = np.rint(part.numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    difference = cv2.matchTemplate(np.ascontiguousarray(frame), part, cv2.TM_SQDIFF)
    place = np.unravel_index(difference.argmin(), difference.shape)
    h, w = part.shape[:2]
    return place if np.array_equal(frame[place[0] : place[0] + h, place[1] : place[1] + w], part) else None
