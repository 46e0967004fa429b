"""``python -m vsr.bench_data``; see vsr.tools.bench_data."""

from vsr.tools.bench_data import main
from vsr.utils.errors import exit_cleanly

if __name__ == "__main__":
    exit_cleanly(main)
