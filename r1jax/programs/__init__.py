"""The training programs, one a file; `pipeline` runs a config's stages in order."""
