"""Files that ship with the package: the trained model and what is to be said of it."""
