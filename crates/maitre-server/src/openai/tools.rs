//! Tools that a conversation may call, and the calls in it.

use std::collections::HashSet;
use std::sync::Arc;

use maitre_engine::{self as engine, PartOptions, TextError, Tool, ToolChoice};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::service::violations::Violations;

/// The fields about tools.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(super) struct Tools {
    /// What the model may call: `{"type": "function", "function": {name, description, parameters}}`.
    #[schema(value_type = Option<Vec<Object>>)]
    pub(super) tools: Option<Vec<Value>>,
    /// `none`, `auto` (the default), `required`, or the one to call.
    #[schema(value_type = Option<String>)]
    pub(super) tool_choice: Option<Value>,
    /// Whether an answer may have several calls; default true.
    pub(super) parallel_tool_calls: Option<bool>,
}

/// A call of a tool in an assistant's message.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(super) struct GivenCall {
    /// Its id, which the tool's answer names.
    id: Option<String>,
    /// What is called.
    function: Option<GivenFunction>,
}

/// What is called, and with what.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(super) struct GivenFunction {
    /// The tool's name.
    name: Option<String>,
    /// A JSON object, as text (or as it is).
    #[schema(value_type = Option<String>)]
    arguments: Option<Value>,
}

/// What a request says of tools, once it is checked.
#[derive(Debug, Default)]
pub(super) struct CheckedTools {
    /// The tools as templates expect them; none where the model may not call any.
    pub(super) shown: Vec<Value>,
    tools: engine::Tools,
    choice: ToolChoice,
    parallel: bool,
}

impl Tools {
    /// Checks the tools and the choice among them.
    pub(super) fn checked(&self, found: &mut Violations) -> CheckedTools {
        let given = self.tools.as_deref().unwrap_or_default();
        let before = found.len();
        let tools: Vec<Tool> = given
            .iter()
            .enumerate()
            .filter_map(|(index, tool)| check_tool(index, tool, found))
            .collect();
        let mut names = HashSet::new();
        for (index, tool) in tools.iter().enumerate() {
            if !names.insert(tool.name.as_str()) && found.len() == before {
                let description = format!("is {:?}, as that of a tool before it", tool.name);
                found.add(format!("tools[{index}].function.name"), description);
            }
        }
        let choice = self.choice(found);
        // What is wrong with a tool has been found above.
        let tools = match found.len() == before {
            true => engine::Tools::new(tools).unwrap_or_default(),
            false => engine::Tools::default(),
        };
        CheckedTools {
            shown: match choice {
                ToolChoice::None => Vec::new(),
                _ => given.to_vec(),
            },
            tools,
            choice,
            parallel: self.parallel_tool_calls.unwrap_or(true),
        }
    }

    /// Whether the model calls tools, and which.
    fn choice(&self, found: &mut Violations) -> ToolChoice {
        let choice = match &self.tool_choice {
            None | Some(Value::Null) => return ToolChoice::Auto,
            Some(Value::String(choice)) => match choice.as_str() {
                "none" => return ToolChoice::None,
                "auto" => ToolChoice::Auto,
                "required" => ToolChoice::Required,
                other => {
                    let description =
                        format!("is {other:?}; expected none, auto, required or a function");
                    found.add("tool_choice", description);
                    return ToolChoice::Auto;
                }
            },
            Some(named) => match named_function(named, found) {
                Some(name) => ToolChoice::Named(name),
                None => return ToolChoice::Auto,
            },
        };
        if self.tools.as_ref().is_none_or(Vec::is_empty) {
            found.add(
                "tool_choice",
                "is given and tools is not; leave it out or give tools",
            );
            return ToolChoice::Auto;
        }
        choice
    }
}

impl CheckedTools {
    /// How the engine takes the answer apart.
    pub(super) fn parts(self, streams: bool) -> PartOptions {
        PartOptions {
            tools: Arc::new(self.tools),
            tool_choice: self.choice,
            parallel_tool_calls: self.parallel,
            whole_calls: !streams,
            ..PartOptions::default()
        }
    }
}

/// The function that `tool_choice` names: `{"type": "function", "function": {"name": ...}}`.
fn named_function(choice: &Value, found: &mut Violations) -> Option<String> {
    if let Some(kind) = choice.get("type").filter(|kind| *kind != "function") {
        let description = format!("is {kind}; only function is supported");
        found.add("tool_choice.type", description);
        return None;
    }
    let name = choice.pointer("/function/name").and_then(Value::as_str);
    if name.is_none() {
        let description =
            "names no function; expected {\"type\": \"function\", \"function\": {\"name\": ...}}";
        found.add("tool_choice", description);
    }
    name.map(str::to_owned)
}

fn check_tool(index: usize, tool: &Value, found: &mut Violations) -> Option<Tool> {
    let path = format!("tools[{index}]");
    match tool.get("type").and_then(Value::as_str) {
        Some("function") => {}
        Some(other) => {
            let description = format!("is {other:?}; only function is supported");
            found.add(format!("{path}.type"), description);
            return None;
        }
        None => {
            found.add(format!("{path}.type"), "is missing; expected function");
            return None;
        }
    }
    let function = tool.get("function");
    let name = function
        .and_then(|it| it.get("name"))
        .and_then(Value::as_str);
    if name.is_none_or(str::is_empty) {
        found.add(
            format!("{path}.function.name"),
            "is missing; a tool needs a name",
        );
        return None;
    }
    let parameters = function.and_then(|it| it.get("parameters"));
    if parameters.is_some_and(|it| !it.is_object() && !it.is_null()) {
        found.add(
            format!("{path}.function.parameters"),
            "is not a JSON object",
        );
        return None;
    }
    let checked =
        Tool::from_json(tool).and_then(|tool| engine::Tools::new(vec![tool.clone()]).map(|_| tool));
    let refused = |error: TextError| found.add(format!("{path}.function"), error.to_string());
    checked.map_err(refused).ok()
}

impl GivenCall {
    /// The call as templates expect it: with the arguments as an object.
    pub(super) fn for_the_template(self, path: &str, found: &mut Violations) -> Value {
        let function = self.function.unwrap_or_default();
        let name = function.name.unwrap_or_default();
        if name.is_empty() {
            found.add(
                format!("{path}.function.name"),
                "is missing; a call needs a name",
            );
        }
        let arguments = match function.arguments {
            None | Some(Value::Null) => Value::Object(serde_json::Map::new()),
            Some(Value::String(text)) if text.is_empty() => Value::Object(serde_json::Map::new()),
            Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or_default(),
            Some(other) => other,
        };
        if !arguments.is_object() {
            let description = "is not a JSON object; expected \"{\\\"key\\\": value}\"";
            found.add(format!("{path}.function.arguments"), description);
        }
        json!({
            "id": self.id.unwrap_or_default(),
            "type": "function",
            "function": { "name": name, "arguments": arguments },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::json;

    fn checked(text: &str) -> (CheckedTools, Vec<String>) {
        let tools: Tools = json::fields(text.as_bytes()).unwrap();
        let mut found = Violations::default();
        let checked = tools.checked(&mut found);
        let fields = found.fields().into_iter().map(str::to_owned).collect();
        (checked, fields)
    }

    #[test]
    fn tools_are_shown_unless_none_may_be_called() {
        let tools =
            r#""tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]"#;
        let named = |name: &str| ToolChoice::Named(name.to_owned());
        for (choice, shown, expected, field) in [
            ("null", 1, ToolChoice::Auto, None),
            ("\"auto\"", 1, ToolChoice::Auto, None),
            ("\"none\"", 0, ToolChoice::None, None),
            ("\"required\"", 1, ToolChoice::Required, None),
            ("\"often\"", 1, ToolChoice::Auto, Some("tool_choice")),
            (
                r#"{"type": "function", "function": {"name": "f"}}"#,
                1,
                named("f"),
                None,
            ),
            // The engine says that there is no such tool.
            (
                r#"{"type": "function", "function": {"name": "g"}}"#,
                1,
                named("g"),
                None,
            ),
            (
                r#"{"type": "allowed_tools"}"#,
                1,
                ToolChoice::Auto,
                Some("tool_choice.type"),
            ),
            (
                r#"{"type": "function", "function": "f"}"#,
                1,
                ToolChoice::Auto,
                Some("tool_choice"),
            ),
            ("7", 1, ToolChoice::Auto, Some("tool_choice")),
        ] {
            let (found, fields) = checked(&format!("{{{tools}, \"tool_choice\": {choice}}}"));
            let expected_fields: Vec<String> = field.into_iter().map(str::to_owned).collect();
            assert_eq!(fields, expected_fields, "{choice}");
            assert_eq!(
                (found.shown.len(), found.choice),
                (shown, expected),
                "{choice}"
            );
        }
        for choice in ["\"auto\"", "\"required\""] {
            let text = format!("{{\"tool_choice\": {choice}}}");
            assert_eq!(checked(&text).1, ["tool_choice"]);
        }
    }

    #[test]
    fn a_tool_is_checked_part_by_part() {
        let function =
            |function: &str| format!(r#"{{"type": "function", "function": {function}}}"#);
        for (tool, field) in [
            ("{}".to_owned(), "tools[0].type"),
            (r#"{"type": "web_search"}"#.to_owned(), "tools[0].type"),
            (
                r#"{"type": "function"}"#.to_owned(),
                "tools[0].function.name",
            ),
            (
                function(r#"{"name": "f", "parameters": 1}"#),
                "tools[0].function.parameters",
            ),
            (function(r#"{"name": "f g"}"#), "tools[0].function"),
            (
                function(r#"{"name": "f", "description": 1}"#),
                "tools[0].function",
            ),
            (
                function(r#"{"name": "f", "strict": "yes"}"#),
                "tools[0].function",
            ),
            (
                function(r#"{"name": "f", "parameters": {"type": "array"}}"#),
                "tools[0].function",
            ),
            (
                function(r#"{"name": "f", "parameters": {"properties": []}}"#),
                "tools[0].function",
            ),
        ] {
            let found = checked(&format!("{{\"tools\": [{tool}]}}")).1;
            assert_eq!(found, [field], "{tool}");
        }
        let f = function(r#"{"name": "f"}"#);
        let found = checked(&format!("{{\"tools\": [{f}, {f}]}}")).1;
        assert_eq!(found, ["tools[1].function.name"]);
    }

    #[test]
    fn arguments_reach_the_template_as_an_object() {
        let call = |arguments: &str| {
            let text =
                format!(r#"{{"id": "1", "function": {{"name": "f", "arguments": {arguments}}}}}"#);
            let call: GivenCall = json::fields(text.as_bytes()).unwrap();
            let mut found = Violations::default();
            let value = call.for_the_template("messages[0].tool_calls[0]", &mut found);
            (value["function"]["arguments"].to_string(), found.is_empty())
        };
        assert_eq!(
            call(r#""{\"b\": 1, \"a\": 2}""#),
            (r#"{"b":1,"a":2}"#.into(), true)
        );
        assert_eq!(call(r#"{"a": 1}"#), (r#"{"a":1}"#.into(), true));
        assert_eq!(call("\"\""), ("{}".into(), true));
        assert!(!call("\"[]\"").1);
        assert!(!call("\"{\"").1);
    }
}
