"""The HTTP API: submissions in, answers, traces and reports out."""
