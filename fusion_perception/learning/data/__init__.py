"""Read, check, pack and write data folders."""
