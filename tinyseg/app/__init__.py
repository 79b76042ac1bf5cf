"""What the command `tinyseg` and the demos share: run folders, flags, reports, segmenting."""
