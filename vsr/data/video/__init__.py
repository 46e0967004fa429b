"""Videos: decoding, colours, and videos as frame stores."""
