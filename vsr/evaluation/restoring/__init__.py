"""The parts of restoration: frames read ahead, calls of the network, tiles."""
