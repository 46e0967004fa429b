"""One thread for every test: the networks are tiny, and results are compared bit for bit with other processes'.

Fuzzed tests try the same examples in every run; ``pytest --hypothesis-profile=default`` looks for new ones.
"""

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")
