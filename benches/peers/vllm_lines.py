#!/usr/bin/env python3
"""vLLM's CPU build as one side of `cargo xtask bench peers`.

usage: vllm_lines.py MODEL_DIR DTYPE THREADS

Loads the model once, prints `ready`, then reads a line `USERS INPUT_TOKENS OUTPUT_TOKENS` for each
measurement and answers `SECONDS TOKENS`: from handing over all requests to the last token, the
prompts' time included. Everything that vLLM prints goes to stderr.
"""

import os
import random
import sys
import time

MODEL, DTYPE, THREADS = sys.argv[1], sys.argv[2], int(sys.argv[3])
MAX_MODEL_LEN = 8192
MAX_USERS = 128

# Answers have the real stdout to themselves; what libraries print, even from C, goes to stderr.
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

os.environ.update(
    VLLM_CPU_KVCACHE_SPACE="4",  # GiB
    VLLM_CPU_OMP_THREADS_BIND=f"0-{THREADS - 1}",
    VLLM_ENABLE_V1_MULTIPROCESSING="0",  # the engine in this process, like Maitre's
    HF_HUB_OFFLINE="1",
    VLLM_NO_USAGE_STATS="1",
)


def main() -> None:
    from vllm import LLM, SamplingParams

    llm = LLM(
        MODEL,
        dtype=DTYPE,
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=MAX_USERS,
        enable_prefix_caching=False,
    )
    vocabulary = llm.get_tokenizer().vocab_size
    generator = random.Random(0)

    def measure(users: int, input_tokens: int, output_tokens: int) -> tuple[float, int]:
        prompts = [
            {"prompt_token_ids": [generator.randrange(vocabulary) for _ in range(input_tokens)]}
            for _ in range(users)
        ]
        params = SamplingParams(
            temperature=0, max_tokens=output_tokens, ignore_eos=True, detokenize=False
        )
        begin = time.perf_counter()
        outputs = llm.generate(prompts, params, use_tqdm=False)
        seconds = time.perf_counter() - begin
        return seconds, sum(len(output.outputs[0].token_ids) for output in outputs)

    print("ready", file=answers)
    # Not `for line in sys.stdin`, which reads ahead.
    while line := sys.stdin.readline():
        seconds, tokens = measure(*map(int, line.split()))
        print(f"{seconds:.6f} {tokens}", file=answers)


if __name__ == "__main__":
    main()
