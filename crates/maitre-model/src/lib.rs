//! Config to weights to forward: Llama and Qwen3 on ragged paged batches.
