"""What LangChain's ChatOpenAI makes of a running server: `langchain_chat.py http://HOST:PORT/v1`."""

import sys
from typing import Literal

import langchain_openai
import pydantic

url = sys.argv[1]


class Order(pydantic.BaseModel):
    """An order of coffee."""

    # A model as small as the bundled one would invent fields until its answer is full.
    model_config = pydantic.ConfigDict(extra="forbid")
    size: Literal["small", "large"]
    cups: int = pydantic.Field(ge=1, le=9)


chat = langchain_openai.ChatOpenAI(base_url=url, api_key="none", model="bundled", temperature=0, max_tokens=400, max_retries=0)
question = [("system", "You take orders."), ("human", "I would like to order a large latte with oat milk.")]

whole = chat.invoke(question)
assert whole.content and whole.usage_metadata["output_tokens"] > 0, whole
assert "".join(chunk.content for chunk in chat.stream(question)) == whole.content
assert len(chat.batch([question, question])) == 2

for method in ("json_schema", "function_calling"):
    order = chat.with_structured_output(Order, method=method).invoke(question)
    assert isinstance(order, Order), order

call = chat.bind_tools([Order], tool_choice="required", parallel_tool_calls=False).invoke(question)
assert [it["name"] for it in call.tool_calls] == ["Order"], call
Order.model_validate(call.tool_calls[0]["args"])
print(f"langchain-openai: all well ({whole.content!r})")
