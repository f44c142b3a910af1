//! Tools of a conversation, and which of them the model is to call.

use std::collections::HashSet;

use maitre_engine::{TextError, Tool, ToolChoice, Tools};
use maitre_proto::v1;
use serde_json::{Value, json};

use super::conversation::{object, require_name};
use crate::service::violations::Violations;

/// One tool, in the shape that chat templates expect; `index` is its place among the tools.
pub(super) fn tool(index: usize, given: v1::Tool, found: &mut Violations) -> Value {
    let path = format!("tools[{index}]");
    require_name(&given.name, &path, found);
    let parameters = object(
        &given.parameters_json,
        || format!("{path}.parameters_json"),
        found,
    );
    let mut function = json!({
        "name": given.name,
        "description": given.description,
        "parameters": parameters,
    });
    if given.strict {
        function["strict"] = Value::Bool(true);
    }
    json!({ "type": "function", "function": function })
}

/// The tools as the engine knows them; none if something is wrong with one.
pub(super) fn checked(given: &[Value], found: &mut Violations) -> Tools {
    let before = found.len();
    let mut tools = Vec::with_capacity(given.len());
    let mut names = HashSet::new();
    for (index, given) in given.iter().enumerate() {
        let path = format!("tools[{index}]");
        let checked =
            Tool::from_json(given).and_then(|tool| Tools::new(vec![tool.clone()]).map(|_| tool));
        match checked {
            Ok(tool) if names.contains(&tool.name) => {
                let description = format!("is {:?}, as that of a tool before it", tool.name);
                found.add(format!("{path}.name"), description);
            }
            Ok(tool) => {
                names.insert(tool.name.clone());
                tools.push(tool);
            }
            // That there is no name has been found.
            Err(TextError::InvalidTool { name, .. }) if name.is_empty() => {}
            Err(error) => found.add(path, error.to_string()),
        }
    }
    match found.len() == before {
        true => Tools::new(tools).unwrap_or_default(),
        false => Tools::default(),
    }
}

/// Whether the model calls tools, and which.
pub(super) fn tool_choice(given: Option<v1::ToolChoice>, found: &mut Violations) -> ToolChoice {
    use v1::ToolChoiceMode as Mode;
    use v1::tool_choice::Choice;
    let mode = match given.and_then(|given| given.choice) {
        None => return ToolChoice::Auto,
        Some(Choice::Name(name)) => return ToolChoice::Named(name),
        Some(Choice::Mode(mode)) => mode,
    };
    match Mode::try_from(mode) {
        Ok(Mode::Unspecified | Mode::Auto) => ToolChoice::Auto,
        Ok(Mode::None) => ToolChoice::None,
        Ok(Mode::Required) => ToolChoice::Required,
        Err(_) => {
            let description = format!("is {mode}; expected a value of ToolChoiceMode");
            found.add("tool_choice.mode", description);
            ToolChoice::Auto
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grpc::convert::request::{chat, stream_chat};

    fn tool(name: &str, parameters: &str) -> v1::Tool {
        v1::Tool {
            name: name.into(),
            parameters_json: parameters.into(),
            ..Default::default()
        }
    }

    #[test]
    fn tools_are_checked_one_by_one() {
        for (tools, fields) in [
            (vec![tool("", "")], vec!["tools[0].name"]),
            (vec![tool("a b", "")], vec!["tools[0]"]),
            (vec![tool("a", "[]")], vec!["tools[0].parameters_json"]),
            (vec![tool("a", r#"{"type": "array"}"#)], vec!["tools[0]"]),
            (vec![tool("a", ""), tool("a", "")], vec!["tools[1].name"]),
            (vec![tool("a", ""), tool("b", "{}")], vec![]),
        ] {
            let message = v1::ChatRequest {
                tools: tools.clone(),
                ..Default::default()
            };
            assert_eq!(chat(message).violations.fields(), fields, "{tools:?}");
        }
    }

    #[test]
    fn every_choice_arrives() {
        use v1::ToolChoiceMode as Mode;
        use v1::tool_choice::Choice;
        let mode = |mode: Mode| Some(Choice::Mode(mode.into()));
        for (choice, expected) in [
            (None, ToolChoice::Auto),
            (mode(Mode::Unspecified), ToolChoice::Auto),
            (mode(Mode::Auto), ToolChoice::Auto),
            (mode(Mode::None), ToolChoice::None),
            (mode(Mode::Required), ToolChoice::Required),
            (
                Some(Choice::Name("a".into())),
                ToolChoice::Named("a".into()),
            ),
        ] {
            let message = v1::StreamChatRequest {
                tools: vec![tool("a", "")],
                tool_choice: Some(v1::ToolChoice { choice }),
                parallel_tool_calls: Some(false),
                reasoning: Some(v1::ReasoningOptions {
                    separate: Some(false),
                    token_budget: Some(7),
                }),
                ..Default::default()
            };
            let converted = stream_chat(message);
            assert!(converted.violations.is_empty());
            let parts = converted.request.parts.unwrap();
            assert_eq!(parts.tool_choice, expected);
            assert!(!parts.parallel_tool_calls && !parts.reasoning && !parts.whole_calls);
            assert_eq!(parts.thinking_token_budget, Some(7));
            assert!(parts.tools.get("a").is_some());
            let maitre_engine::Input::Chat(chat) = converted.request.input else {
                panic!("not a conversation");
            };
            assert_eq!(chat.tools.is_empty(), expected == ToolChoice::None);
        }
        let unknown = v1::ChatRequest {
            tool_choice: Some(v1::ToolChoice {
                choice: Some(Choice::Mode(9)),
            }),
            ..Default::default()
        };
        assert_eq!(chat(unknown).violations.fields(), ["tool_choice.mode"]);
    }
}
