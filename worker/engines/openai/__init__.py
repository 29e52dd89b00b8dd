"""An OpenAI-compatible server as an engine: vLLM, or any other that streams completions."""
