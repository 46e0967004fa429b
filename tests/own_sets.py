"""Training sets of one's own, and the warnings about them."""

import logging

from vsr.data import REDSDataset

OPTIONS = {"val_partition": "none", "num_frame": 3, "gt_size": 32}


def training(clips, **options):
    return REDSDataset(
        **{"dataroot_gt": clips.gt, "dataroot_lq": clips.lq, "meta_info_file": clips.meta, **OPTIONS, **options}
    )


def sides(clips):
    return clips.gt, clips.lq


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
