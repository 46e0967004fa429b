"""One thread for every test: the networks are tiny, and results are compared bit for bit with other processes'.

Fuzzed tests try the same examples in every run; ``pytest --hypothesis-profile=default`` looks for new ones.
"""

import os
import sys
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
sys.path.append(str(Path(__file__).parents[1] / "scripts"))  # for preparation/, as when a script is run

import pytest
import torch
from hypothesis import settings
from options_files import right_options
from synthetic import make_clips
from training import write_options

torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two small clips to train on; a module that needs others has its own."""
    return make_clips(tmp_path_factory.mktemp("clips"), num_clips=2, num_frames=6, gt_size=(48, 64))


@pytest.fixture
def in_tmp_path(tmp_path, monkeypatch):
    """Works in the test's own folder: ``experiments`` and ``results`` are made there."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def train(tmp_path):
    """Trains what options describe, in this process; further arguments are the command line's."""
    from vsr.train import main  # 2 s, and most tests do without

    return lambda options, *arguments: main(["-opt", str(write_options(tmp_path, options)), *arguments])


@pytest.fixture
def tree(clips):
    """Options that are right, as a mapping, to be spoilt."""
    return right_options(clips)
