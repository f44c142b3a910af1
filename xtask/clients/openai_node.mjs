// What npm's `openai` makes of a running server: `node openai_node.mjs http://HOST:PORT/v1`.

import assert from "node:assert";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const model = "bundled";
const messages = [{ role: "user", content: "I would like to order a large latte with oat milk." }];

const whole = await client.chat.completions.create({ model, messages, temperature: 0 });
const text = whole.choices[0].message.content;
assert(text && whole.choices[0].finish_reason === "stop");

let streamed = "";
for await (const chunk of await client.chat.completions.create({ model, messages, temperature: 0, stream: true })) {
  streamed += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(streamed, text);

const schema = {
  type: "object",
  properties: { size: { enum: ["small", "large"] }, cups: { type: "integer", minimum: 1, maximum: 9 } },
  required: ["size", "cups"],
  additionalProperties: false,
};
const isOrder = (json) => ["small", "large"].includes(JSON.parse(json).size);
const formed = await client.chat.completions.create({
  model, messages, response_format: { type: "json_schema", json_schema: { name: "order", strict: true, schema } },
});
assert(isOrder(formed.choices[0].message.content));

const tools = [{ type: "function", function: { name: "place_order", parameters: schema, strict: true } }];
const called = await client.chat.completions.create({
  model, messages, tools, tool_choice: "required", parallel_tool_calls: false, max_tokens: 100,
});
const [call] = called.choices[0].message.tool_calls;
assert(call.function.name === "place_order" && isOrder(call.function.arguments));

await assert.rejects(client.chat.completions.create({ model: "gpt-7", messages }), (error) => error.status === 404);
console.log("openai (npm): all well");
