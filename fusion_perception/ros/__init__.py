"""Turn topics into calls of the runtime, and predictions into topics."""
