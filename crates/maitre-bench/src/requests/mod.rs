//! What is asked, and when.

mod load;
mod plan;
mod prompts;
mod questions;
mod recorded_chats;
mod workload;

pub use load::Load;
pub(crate) use plan::Plan;
pub use prompts::{PromptFile, Prompts};
pub use questions::Questions;
pub use recorded_chats::{ChatsNeeded, RecordedChats};
pub use workload::Workload;
