// What the Vercel AI SDK makes of a running server: `node vercel_ai.mjs http://HOST:PORT/v1`.

import assert from "node:assert";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, streamText, tool } from "ai";
import { z } from "zod";

const maitre = createOpenAICompatible({ name: "maitre", baseURL: process.argv[2], supportsStructuredOutputs: true });
const model = maitre("bundled");
const prompt = "I would like to order a large latte with oat milk.";
const settings = { model, prompt, temperature: 0, maxOutputTokens: 400, maxRetries: 0 };

const whole = await generateText(settings);
assert(whole.text && whole.usage.outputTokens > 0);

let streamed = "";
for await (const piece of streamText(settings).textStream) streamed += piece;
assert.equal(streamed, whole.text);

const schema = z.object({ size: z.enum(["small", "large"]), cups: z.number().int().min(1).max(9) });
const formed = await generateObject({ ...settings, schema });
schema.parse(formed.object);

const place_order = tool({ description: "Orders coffee", inputSchema: schema });
const called = await generateText({ ...settings, tools: { place_order }, toolChoice: "required" });
assert(called.toolCalls.length > 0 && called.toolCalls.every((call) => call.toolName === "place_order"));
called.toolCalls.forEach((call) => schema.parse(call.input));
console.log("ai (Vercel): all well");
