//! OpenAI's API over real HTTP.

mod answers;
mod client;
mod connections;
mod refusals;
mod scores;
mod structured;
mod surroundings;
mod text;
mod tools;
