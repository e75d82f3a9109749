"""Make the parts of the page of an evaluation."""
