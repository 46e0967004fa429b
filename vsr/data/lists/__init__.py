"""Lists of clips: BasicSR's meta files, and the CSV lists of next-frame data."""
