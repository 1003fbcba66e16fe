"""Programs that show where a number of this project comes from."""
