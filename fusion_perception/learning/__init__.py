"""Turn data folders and recordings into bundles, tables and pictures."""
