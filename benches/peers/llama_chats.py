#!/usr/bin/env python3
"""Chats of llama.cpp's server, and what Maitre makes of the same tokens.

usage: llama_chats.py MAITRE LLAMA_SERVER MODEL.gguf [PROMPTS.jsonl [CHATS [TOKENS]]]

Starts both servers on free ports with the same file, and a second Maitre with the file's numbers in f32, which rounds
nothing. For each prompt (`{"turns": [FIRST, ..]}` a line; a few of its own without a file) it compares the ids of the
chat, the token that each would choose at each place of llama.cpp's greedy answer, and the log probabilities of llama.cpp's
choices. Both Maitres score the tokens that llama.cpp generated, so one difference does not change the rest of a chat.
Fails if the ids of a chat differ.

Both engines round activations to 8 bits, llama.cpp in groups of 32 or 256 and Maitre in groups of 32, and so do not agree
to the bit. How far each is from what f32 computes is printed.
"""

import json
import math
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

QUESTIONS = [
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "Name three primary colours.",
    "Why is the sky blue?",
]


def call(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.load(answer)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_maitre(program, model, dtype):
    ports = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"]
    command = [program, "serve", "--model", model, "--dtype", dtype, "--max-model-len", "4096", *ports]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    ready = process.stdout.readline()
    address = re.search(r"http=(\S+)", ready)
    if not address:
        sys.exit(f"maitre said {ready!r}, expected `ready grpc=ADDR http=ADDR`")
    return process, f"http://{address[1]}"


def start_llama(program, model):
    port = free_port()
    command = [program, "-m", model, "--port", str(port), "-c", "4096", "-np", "1", "--jinja"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        if process.poll() is not None:
            sys.exit(f"{program} ended with {process.returncode}")
        try:
            call(url + "/health")
            return process, url
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    sys.exit(f"{program} did not become ready in a minute")


def chat_ids(maitre, llama, question):
    """The ids of a chat of one question, by each of the two."""
    messages = [{"role": "user", "content": question}]
    prompt = call(llama + "/apply-template", {"messages": messages})["prompt"]
    theirs = call(llama + "/tokenize", {"content": prompt, "add_special": True, "parse_special": True})
    ours = call(maitre + "/tokenize", {"messages": messages, "add_generation_prompt": True})
    return ours["tokens"], theirs["tokens"]


def greedy(llama, ids, tokens):
    """llama.cpp's choices: their ids and log probabilities."""
    body = {"prompt": ids, "n_predict": tokens, "temperature": 0, "n_probs": 2, "cache_prompt": False}
    answer = call(llama + "/completion", body)["completion_probabilities"]
    return [(it["id"], it["logprob"]) for it in answer]


def scored(maitre, name, ids, choices):
    """Maitre's log probability of each choice, and of the token that it would choose itself."""
    prompt = ids + [choice for choice, _ in choices]
    body = {"model": name, "prompt": prompt, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
    logprobs = call(maitre + "/v1/completions", body)["choices"][0]["logprobs"]
    places = range(len(ids), len(prompt))
    own = logprobs["token_logprobs"]
    best = logprobs["top_logprobs"]
    return [(own[at], max([own[at], *best[at].values()])) for at in places]


def main():
    maitre_program, llama_program, model = sys.argv[1:4]
    prompts, chats, tokens = (sys.argv[4:] + [None, None, None])[:3]
    questions = QUESTIONS
    if prompts:
        with open(prompts, encoding="utf-8") as lines:
            questions = [json.loads(line)["turns"][0] for line in lines]
    questions = questions[: int(chats or 20)]
    servers = []
    try:
        maitres = []
        for dtype in ["auto", "f32"]:
            process, url = start_maitre(maitre_program, model, dtype)
            servers.append(process)
            maitres.append(url)
        process, llama = start_llama(llama_program, model)
        servers.append(process)
        sys.exit(compare(maitres, llama, questions, int(tokens or 64)))
    finally:
        for process in servers:
            process.kill()
            process.wait()


class Apart:
    """How far the log probabilities of two are apart."""

    def __init__(self, name):
        self.name, self.squares, self.most, self.count = name, 0.0, 0.0, 0

    def add(self, one, other):
        difference = abs(one - other)
        self.squares += difference**2
        self.most = max(self.most, difference)
        self.count += 1

    def __str__(self):
        root = math.sqrt(self.squares / max(self.count, 1))
        return f"{self.name}: {root:.4f} nats apart (root mean square), {self.most:.3f} at most"


def compare(maitres, llama, questions, tokens):
    name = call(maitres[0] + "/v1/models")["data"][0]["id"]
    different_ids = places = 0
    # Of Maitre, and of the reference in f32: the places where it chooses as llama.cpp did.
    same = [0, 0]
    apart = [Apart("llama.cpp and f32"), Apart("maitre and f32"), Apart("maitre and llama.cpp")]
    for question in questions:
        ours, theirs = chat_ids(maitres[0], llama, question)
        if ours != theirs:
            different_ids += 1
            print(f"other ids: {question!r}\n  maitre    {ours}\n  llama.cpp {theirs}")
        choices = greedy(llama, theirs, tokens)
        agreed = 0
        rows = zip(choices, *(scored(maitre, name, theirs, choices) for maitre in maitres))
        for (_, expected), (found, best), (exact, exact_best) in rows:
            agreed += found >= best
            same[1] += exact >= exact_best
            for pair, (one, other) in zip(apart, [(expected, exact), (found, exact), (found, expected)]):
                pair.add(one, other)
        same[0] += agreed
        places += len(choices)
        print(f"{agreed:4} of {len(choices):3} tokens  {question[:60]!r}", flush=True)
    print(f"{len(questions)} chats, {different_ids} with other ids")
    print(f"{places} tokens of llama.cpp: maitre would choose {same[0]} of them, f32 {same[1]}")
    print(*apart, sep="\n")
    return different_ids > 0


main()
