"""The trainer against BasicSR's: losses, rates, weights and averages, through warm-up, freezing and a restart."""

import json
from pathlib import Path

import pytest
import yaml
from edvr_cases import SMALL, TRAINING, batch, fill, norms

from vsr import config
from vsr.engine import loop
from vsr.engine.run import Run
from vsr.utils.distributed import take_place

PUBLISHED = json.loads((Path(__file__).parent / "data" / "training_published.json").read_text())


def test_14_steps_equal_the_published_trainers(tmp_path, monkeypatch):
    """The stored values were computed by data/make_training_published.py; the stages change at steps 3, 5 and 7."""
    train_set = {"type": "REDSDataset", "dataroot_gt": "gt", "dataroot_lq": "lq", "meta_info_file": "clips.txt"}
    file = tmp_path / "options.yml"
    tree = {
        "name": "published",
        "scale": 4,
        "datasets": {"train": {**train_set, "val_partition": "none"}},
        "network_g": {"type": "EDVR", **SMALL},
        "train": TRAINING,
        "logger": {"print_freq": 1, "use_tb_logger": False},
    }
    file.write_text(yaml.safe_dump(tree))
    options = config.load(file, missing_data="note")
    steps = []
    with take_place(num_gpu=0) as place:
        run = Run(
            place=place,
            folder=tmp_path,
            logger=options.logger,
            val_freq=None,
            batches=lambda start: (
                {**batch(i), "keys": None} for i in range(start // 2 + 1, TRAINING["total_iter"] + 1)
            ),
            effective_batch=2,
            training_set="",
            validate=None,
            settings={},
            loaded=[],
        )
        trainer = options.trainer(fill(options.network_g()), run, train=options.train)
        log = loop.log

        def note(*arguments):
            rates = [group["lr"] for group in trainer.players["g"].optimizer.param_groups]
            steps.append({"rates": rates, "loss": trainer.progress.losses[""].item()})
            log(*arguments)

        monkeypatch.setattr(loop, "log", note)
        loop.fit(trainer)
    for own, published in zip(steps, PUBLISHED["steps"], strict=True):
        assert own["rates"] == pytest.approx(published["rates"], rel=1e-9)
        assert own["loss"] == pytest.approx(published["loss"], rel=1e-5)
    assert norms(trainer.players["g"].network.state_dict()) == pytest.approx(PUBLISHED["params"], rel=1e-4)
    assert norms(trainer.players["g"].evaluated.state_dict()) == pytest.approx(PUBLISHED["params_ema"], rel=1e-4)
