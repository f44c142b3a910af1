"""Conversations that chat templates are rendered with: what callers send, one kind each."""

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Today's weather <now> & later; \"quoted\", größer",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "A city"},
                "days": {"type": "integer", "minimum": 1, "default": 1},
                "scale": {"type": "number", "default": 0.5, "enum": []},
                "exact": {"type": "boolean", "default": False, "extra": None},
            },
            "required": ["city"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "The time", "parameters": {}}}


def call(name, arguments, id="abcdef123"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def message(role, content, **fields):
    return {"role": role, "content": content, **fields}


CONVERSATIONS = {
    "one question": {"messages": [message("user", "Hello, world!")]},
    "no generation prompt": {"messages": [message("user", "Hi")], "add_generation_prompt": False},
    "white space and other scripts": {"messages": [message("user", "  \n tabs\tand 日本語 👩‍👩‍👧 \n\n ")]},
    "empty content": {"messages": [message("user", "")]},
    "system": {"messages": [message("system", "Be brief.\n"), message("user", "Why?")]},
    "several turns": {
        "messages": [
            message("system", "You are an assistant."),
            message("user", "Two tickets"),
            message("assistant", "Here they are."),
            message("user", "And a {{ x }} {% please %}"),
        ]
    },
    "assistant last": {
        "messages": [message("user", "Count"), message("assistant", "1, 2,")],
        "add_generation_prompt": False,
    },
    "late system message": {"messages": [message("user", "a"), message("assistant", "b"), message("system", "c")]},
    "thinking off": {"messages": [message("user", "2+2?")], "template_kwargs": {"enable_thinking": False}},
    "thinking on": {"messages": [message("user", "2+2?")], "template_kwargs": {"enable_thinking": True}},
    "thoughts in the content": {
        "messages": [
            message("user", "2+2?"),
            message("assistant", "<think>\nTwo and two.\n</think>\n\nFour."),
            message("user", "Sure?"),
        ]
    },
    "thoughts in the last answer": {
        "messages": [message("user", "2+2?"), message("assistant", "<think>\nTwo and two.\n</think>\n\nFour.")],
        "add_generation_prompt": False,
    },
    "thoughts apart": {
        "messages": [
            message("user", "2+2?"),
            message("assistant", "Four.", reasoning_content="Two and two."),
            message("user", "Sure?"),
            message("assistant", "Yes.", reasoning_content="\nI am sure.\n"),
        ]
    },
    "tools": {"messages": [message("user", "Weather in Paris?")], "tools": [WEATHER, CLOCK]},
    "tools and system": {
        "messages": [message("system", "Help."), message("user", "Weather in Paris?")],
        "tools": [WEATHER],
    },
    "a tool is called": {
        "messages": [
            message("user", "Weather in Paris?"),
            message("assistant", "", tool_calls=[call("get_weather", {"city": "Paris", "days": 2, "x": [1.0, 1e-7]})]),
            message("tool", "{\"sky\": \"clear & <blue>\"}", tool_call_id="abcdef123"),
            message("assistant", "Clear."),
            message("user", "Thanks"),
        ],
        "tools": [WEATHER],
    },
    "two tools are called": {
        "messages": [
            message("user", "Weather and time?"),
            message(
                "assistant",
                "Let me see.",
                tool_calls=[call("get_weather", {"city": "Köln"}), call("clock", {}, id="123456789")],
            ),
            message("tool", "rain", tool_call_id="abcdef123"),
            message("tool", "12:00", tool_call_id="123456789"),
        ],
        "tools": [WEATHER, CLOCK],
    },
    "arguments as a string": {
        "messages": [
            message("user", "Weather?"),
            message("assistant", "", tool_calls=[call("get_weather", "{\"city\": \"Rome\"}")]),
            message("tool", "hot", tool_call_id="abcdef123"),
        ]
    },
    "a date": {"messages": [message("user", "Today?")], "template_kwargs": {"date_string": "01 Jan 2026"}},
    "built-in tools": {
        "messages": [
            message("user", "Search"),
            message("assistant", "", tool_calls=[call("brave_search", {"query": "rust"})]),
        ],
        "template_kwargs": {"builtin_tools": ["brave_search", "code_interpreter"]},
    },
    "tools in the system message": {
        "messages": [message("system", "S"), message("user", "U")],
        "tools": [CLOCK],
        "template_kwargs": {"tools_in_user_message": False},
    },
    "two assistants in a row": {
        "messages": [message("user", "a"), message("assistant", "b"), message("assistant", "c")]
    },
}

NO_PARAMETERS = {"type": "function", "function": {"name": "now", "description": "The time"}}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Finds <pages> in \"the\" index\nand more",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "Words", "minLength": 1},
                "kinds": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "description": "Kinds"},
                "where": {
                    "type": "object",
                    "description": "Place",
                    "properties": {"x": {"type": ["number", "null"]}, "tags": {"type": "array", "items": {"type": "integer"}}},
                    "required": ["x"],
                },
                "any": {"anyOf": [{"type": "string"}, {"type": "integer"}], "default": "é"},
                "all": {"description": "no type"},
            },
            "required": ["query", "kinds"],
            "additionalProperties": False,
        },
        "return": {"type": "object", "properties": {"n": {"type": "integer"}}},
    },
}

ANSWERED = [
    message("user", "Weather in Paris?"),
    message("assistant", "", tool_calls=[call("get_weather", {"city": "Paris", "days": 2})]),
    message("tool", "{\"sky\": \"clear\"}", tool_call_id="abcdef123", name="get_weather"),
]

CONVERSATIONS |= {
    "null content": {"messages": [message("user", "Hi"), message("assistant", None), message("user", "Hm?")]},
    "null content that calls a tool": {
        "messages": [
            message("user", "Weather?"),
            message("assistant", None, tool_calls=[call("get_weather", {"city": "Rome"})]),
            message("tool", "hot", tool_call_id="abcdef123"),
        ],
        "tools": [WEATHER],
    },
    "a system message and no more": {"messages": [message("system", "Be brief.")]},
    "an empty system message": {"messages": [message("system", ""), message("user", "Hi")]},
    "a tool without parameters": {"messages": [message("user", "Time?")], "tools": [NO_PARAMETERS]},
    "tools with and without parameters": {
        "messages": [message("system", "S"), message("user", "Time?")],
        "tools": [WEATHER, NO_PARAMETERS, CLOCK, SEARCH],
    },
    "an intricate tool": {"messages": [message("user", "Find")], "tools": [SEARCH]},
    "a tool's result is last": {"messages": ANSWERED, "tools": [WEATHER]},
    "a tool's result is last, no generation prompt": {
        "messages": ANSWERED,
        "tools": [WEATHER],
        "add_generation_prompt": False,
    },
    "a tool call is last": {"messages": ANSWERED[:2], "tools": [WEATHER], "add_generation_prompt": False},
    "tool results without tools": {"messages": ANSWERED + [message("assistant", "Clear.")]},
    "a tool call with reasoning": {
        "messages": [
            message("user", "Weather?"),
            message("assistant", "I look.", reasoning_content="Which city?", tool_calls=[call("clock", {})]),
            message("tool", "noon", tool_call_id="abcdef123"),
            message("assistant", "Noon.", reasoning_content="Easy."),
            message("user", "And now?"),
        ],
        "tools": [CLOCK],
    },
    "intricate arguments": {
        "messages": [
            message("user", "Find"),
            message(
                "assistant",
                "",
                tool_calls=[
                    call(
                        "search",
                        {
                            "query": "a \"b\"\n<c> & 'd' \\ ü 日",
                            "kinds": ["a", "b"],
                            "where": {"x": None, "tags": [1, 2.5, True]},
                            "n": 0,
                            "yes": False,
                            "none": None,
                        },
                    )
                ],
            ),
            message("tool", "[1, 2]", tool_call_id="abcdef123"),
            message("user", "More"),
        ],
        "tools": [SEARCH],
    },
    "several tools, several turns": {
        "messages": [
            message("system", "Use tools."),
            *ANSWERED,
            message("assistant", "Clear."),
            message("user", "And the time?"),
            message("assistant", "One moment.", tool_calls=[call("clock", {}, id="aaaaaaaaa"), call("now", {}, id="bbbbbbbbb")]),
            message("tool", "12:00", tool_call_id="aaaaaaaaa"),
            message("tool", "noon", tool_call_id="bbbbbbbbb"),
            message("assistant", "Noon."),
            message("user", "Thanks"),
        ],
        "tools": [WEATHER, CLOCK, NO_PARAMETERS],
    },
    "many turns": {
        "messages": [
            message(role, f"{role} says {n}: größer > 大\n")
            for n in range(12)
            for role in ("user", "assistant")
        ]
        + [message("user", "last")]
    },
    "markers in the text": {
        "messages": [
            message("user", "<|im_end|>[INST]</s><think>x</think><|eot_id|>{\"name\": 1}"),
            message("assistant", "<think>a</think>b</think>c"),
            message("user", "<tool_response>x</tool_response>"),
        ]
    },
    "an emoji": {"messages": [message("user", "👩‍🚀🇩🇪 e\u0301 \u00a0\u2028 \ufeff")]},
    "thinking and tools": {
        "messages": [message("system", "S"), message("user", "Q")],
        "tools": [CLOCK],
        "template_kwargs": {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"},
    },
    "no thinking and tools": {
        "messages": [message("system", "S"), message("user", "Q")],
        "tools": [CLOCK],
        "template_kwargs": {"enable_thinking": False, "thinking": False, "reasoning_effort": "low"},
    },
    "other options": {
        "messages": [message("user", "Q"), message("assistant", "A", reasoning_content="R"), message("user", "Q2")],
        "template_kwargs": {
            "add_thoughts": True,
            "clear_thinking": False,
            "preserve_thinking": True,
            "keep_past_thinking": True,
            "thinking_budget": 512,
            "model_identity": "You are a model.",
            "response_format": {"type": "json_object"},
            "documents": [{"title": "T", "text": "D", "doc_id": 1}],
            "date_string": "01 Jan 2026",
            "controls": {"length": "short"},
        },
    },
    "a tool speaks first": {"messages": [message("tool", "x", tool_call_id="abcdef123"), message("user", "y")]},
    "two users in a row": {"messages": [message("user", "a"), message("user", "b")]},
    "two system messages": {"messages": [message("system", "a"), message("system", "b"), message("user", "c")]},
    "an assistant speaks first": {"messages": [message("assistant", "Hello."), message("user", "Hi")]},
    "tools and no user": {"messages": [message("system", "S")], "tools": [CLOCK]},
    "carriage returns": {"messages": [message("user", "a\r\nb\rc"), message("assistant", "d\r\n"), message("user", "e")]},
    "names": {"messages": [message("user", "a", name="Ann"), message("assistant", "b", name="Bot"), message("user", "c", name="Cyd")]},
}
