//! OpenAI's API over real HTTP.

mod answers;
mod bad_input_page;
mod bad_rows;
mod client;
mod connections;
mod continued;
mod refusals;
mod scores;
mod structured;
mod surroundings;
mod text;
mod tools;
