"""Networks of clips: each frame is restored with the features of the frames before and after it."""
