"""The torch engine: continuous batching and exact speculative sampling for Llama checkpoints."""
