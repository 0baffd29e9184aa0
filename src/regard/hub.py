"""Files of a model or a data set by hub name or folder."""
