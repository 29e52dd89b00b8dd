"""OpenAI batches: what their lines ask for, who validates them and what their files say."""
