"""Programs that make the bundled feeders and days from their sources."""
