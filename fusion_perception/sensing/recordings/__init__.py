"""Read recordings, mcap and SQLite, whole or damaged."""
