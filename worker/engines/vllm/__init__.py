"""The vLLM engine: one resident `AsyncLLM` per worker, a draft length per branch."""
