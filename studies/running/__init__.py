"""Running a study: tasks, journal, provenance, command line."""
