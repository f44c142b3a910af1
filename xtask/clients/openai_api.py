"""What OpenAI's own package makes of a running server: `openai_api.py http://HOST:PORT/v1`."""

import json
import sys
from typing import Literal

import openai
import pydantic

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
question = [{"role": "user", "content": "I would like to order a large latte with oat milk."}]


def models():
    (model,) = client.models.list().data
    assert client.models.retrieve(model.id).id == model.id
    return model.id


def conversation(model):
    whole = client.chat.completions.create(model=model, messages=question, temperature=0)
    assert whole.object == "chat.completion" and whole.choices[0].message.role == "assistant"
    text = whole.choices[0].message.content
    assert text and whole.choices[0].finish_reason == "stop", whole
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert whole.usage.prompt_tokens_details.cached_tokens is not None

    stream = client.chat.completions.create(
        model=model, messages=question, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
    assert not chunks[-1].choices and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens

    with client.chat.completions.stream(model=model, messages=question, temperature=0) as helper:
        assert helper.get_final_completion().choices[0].message.content == text

    several = client.chat.completions.create(
        model=model, messages=question, n=3, seed=1, logprobs=True, top_logprobs=2, max_tokens=4,
        extra_body={"top_k": 20, "min_p": 0.01, "repetition_penalty": 1.1},
    )
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    assert all(len(score.top_logprobs) == 2 for score in several.choices[0].logprobs.content)
    return text


def completion(model):
    several = client.completions.create(
        model=model, prompt=["Once upon", "A time"], max_tokens=1, echo=True, logprobs=1, temperature=0
    )
    first, second = several.choices
    assert first.text.startswith("Once upon") and second.text.startswith("A time")
    assert first.logprobs.token_logprobs[0] is None and first.logprobs.token_logprobs[1] <= 0
    stream = client.completions.create(model=model, prompt="Once upon", max_tokens=4, temperature=0, stream=True)
    streamed = "".join(chunk.choices[0].text for chunk in stream)
    whole = client.completions.create(model=model, prompt="Once upon", max_tokens=4, temperature=0)
    assert whole.choices[0].text == streamed and whole.choices[0].finish_reason == "length"


def refusals(model):
    def refused(kind, param, **request):
        try:
            client.chat.completions.create(**{"model": model, "messages": question, **request})
        except kind as error:
            assert error.param == param and error.request_id, error
            return error.code
        raise AssertionError(f"{request} was not refused")

    assert refused(openai.NotFoundError, "model", model="gpt-7") == "model_not_found"
    assert refused(openai.BadRequestError, "temperature", temperature=-1) == "invalid_request"
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]
    refused(openai.BadRequestError, "messages[0].content[0].type", messages=image)
    long = [{"role": "user", "content": "word " * 5000}]
    assert refused(openai.BadRequestError, "messages", messages=long) == "context_length_exceeded"


class Order(pydantic.BaseModel):
    size: Literal["small", "large"]
    cups: int = pydantic.Field(ge=1, le=9)


def forms(model):
    parsed = client.chat.completions.parse(model=model, messages=question, response_format=Order)
    assert isinstance(parsed.choices[0].message.parsed, Order), parsed
    with client.chat.completions.stream(model=model, messages=question, response_format=Order) as helper:
        assert helper.get_final_completion().choices[0].message.parsed.size in ("small", "large")
    choice = client.completions.create(
        model=model, prompt="Hot or cold?", extra_body={"structured_outputs": {"choice": ["hot", "cold"]}}
    )
    assert choice.choices[0].text in ("hot", "cold")


def tools(model):
    tool = openai.pydantic_function_tool(Order, name="place_order", description="Orders coffee")
    request = {"model": model, "messages": question, "tools": [tool], "seed": 4, "max_tokens": 100}
    named = {"type": "function", "function": {"name": "place_order"}}
    for tool_choice in ("required", named):
        whole = client.chat.completions.create(**request, tool_choice=tool_choice, parallel_tool_calls=False)
        (call,) = whole.choices[0].message.tool_calls
        assert call.function.name == "place_order" and whole.choices[0].finish_reason == "tool_calls", whole
        Order.model_validate_json(call.function.arguments)
        with client.chat.completions.stream(
            **request, tool_choice=tool_choice, parallel_tool_calls=False
        ) as helper:
            (streamed,) = helper.get_final_completion().choices[0].message.tool_calls
        assert json.loads(streamed.function.arguments) == json.loads(call.function.arguments)
    # The result goes back, and the model answers.
    done = [*question, whole.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "done"}]
    after = client.chat.completions.create(model=model, messages=done, tools=[tool], tool_choice="none")
    assert after.choices[0].message.tool_calls is None


def leaving(model):
    """A stream that is not read to its end."""
    stream = client.completions.create(
        model=model, prompt="Once", max_tokens=1000, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    stream.close()


model = models()
print(f"{model}: {conversation(model)}")
completion(model)
forms(model)
tools(model)
refusals(model)
leaving(model)
print(f"openai {openai.__version__}: all well")
