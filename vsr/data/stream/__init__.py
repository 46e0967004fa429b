"""The stream of training samples: order, workers, batches, and their way to the device."""
