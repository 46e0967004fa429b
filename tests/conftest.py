"""One thread for every test: the networks are tiny, and results are compared bit for bit with other processes'."""

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import torch

torch.set_num_threads(1)
