"""What an evaluation finds, on data folders and on recordings."""
