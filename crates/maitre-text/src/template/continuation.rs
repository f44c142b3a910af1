//! A conversation whose last message is left open, so that the model goes on with it.
//!
//! A template closes every message. So a mark is put behind the text of the last one, and what was rendered ends where
//! the mark stands, as in transformers (`apply_chat_template` with `continue_final_message`). The mark ends with a
//! space: if the space is gone, the template trims messages, and would have trimmed this one.

use crate::TextError;
use crate::chat::{ChatRequest, Role};

const MARK: &str = "CONTINUE_FINAL_MESSAGE_MARK ";

/// The conversation with the mark, which a template closes as any other.
pub(super) fn marked(request: &ChatRequest) -> Result<ChatRequest, TextError> {
    let nothing = |reason| TextError::NothingToContinue { reason };
    let mut marked = request.clone();
    marked.continue_final_message = false;
    marked.add_generation_prompt = false;
    let last = marked.messages.last_mut().ok_or(TextError::NoMessages)?;
    if last.role != Role::Assistant {
        return Err(nothing(
            "it is not the assistant's; end with the beginning of the answer",
        ));
    }
    if !last.tool_calls.is_empty() {
        return Err(nothing("it calls tools; expected text"));
    }
    let content = last.content.as_mut();
    let content =
        content.ok_or_else(|| nothing("it has no content; give the beginning of the answer"))?;
    content.push_str(MARK);
    Ok(marked)
}

/// What was rendered, up to the mark.
pub(super) fn cut(mut rendered: String) -> Result<String, TextError> {
    let Some(at) = rendered.rfind(MARK.trim_end()) else {
        return Err(TextError::NothingToContinue {
            reason: "the model's chat template leaves its text out",
        });
    };
    let is_trimmed = !rendered
        .get(at..)
        .is_some_and(|rest| rest.starts_with(MARK));
    rendered.truncate(at);
    if is_trimmed {
        rendered.truncate(rendered.trim_end().len());
    }
    Ok(rendered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SpecialTokens;
    use crate::{ChatMessage, ChatTemplate};

    const PLAIN: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";
    const TRIMS: &str =
        "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}</>\n{% endfor %}";

    fn chat(messages: &[(Role, &str)]) -> ChatRequest {
        let message = |(role, text): &(Role, &str)| ChatMessage::new(*role, *text);
        ChatRequest {
            continue_final_message: true,
            ..ChatRequest::new(messages.iter().map(message).collect())
        }
    }

    fn rendered(template: &str, chat: &ChatRequest) -> Result<String, TextError> {
        let template = ChatTemplate::new(template).unwrap();
        template.render(chat, &SpecialTokens::default())
    }

    #[test]
    fn the_prompt_ends_with_the_text_of_the_last_message() {
        let of = |text: &str| chat(&[(Role::User, "Sum?"), (Role::Assistant, text)]);
        for (template, text, expected) in [
            (PLAIN, "It is 4", "<user>Sum?</>\n<assistant>It is 4"),
            (PLAIN, "It is ", "<user>Sum?</>\n<assistant>It is "),
            (PLAIN, "", "<user>Sum?</>\n<assistant>"),
            (PLAIN, "Sum?", "<user>Sum?</>\n<assistant>Sum?"),
            (TRIMS, "It is 4", "<user>Sum?</>\n<assistant>It is 4"),
            (TRIMS, " It is ", "<user>Sum?</>\n<assistant>It is"),
        ] {
            assert_eq!(rendered(template, &of(text)).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_continued_is_refused() {
        let mut calls = chat(&[(Role::Assistant, "a")]);
        calls.messages[0].tool_calls = vec![serde_json::json!({})];
        let mut silent = chat(&[(Role::Assistant, "a")]);
        silent.messages[0].content = None;
        for (template, chat) in [
            (PLAIN, chat(&[(Role::User, "a")])),
            (PLAIN, calls),
            (PLAIN, silent),
            ("{{ messages | length }}", chat(&[(Role::Assistant, "a")])),
        ] {
            let error = rendered(template, &chat).unwrap_err();
            assert!(
                matches!(error, TextError::NothingToContinue { .. }),
                "{error}"
            );
        }
    }
}
