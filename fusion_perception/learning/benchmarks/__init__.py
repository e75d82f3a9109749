"""Measure what `fusion benchmark` tells."""
