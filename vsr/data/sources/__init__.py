"""Where frames come from: folders, LMDBs, packed frames, videos."""
