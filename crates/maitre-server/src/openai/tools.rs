//! Tools that a conversation may call, and the calls in it.

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

impl Tools {
    /// The tools as templates expect them; none where the model may not call any.
    pub(super) fn for_the_template(&self, found: &mut Violations) -> Vec<Value> {
        let tools = self.tools.as_deref().unwrap_or_default();
        for (index, tool) in tools.iter().enumerate() {
            check_tool(index, tool, found);
        }
        if self.may_call(found) {
            tools.to_vec()
        } else {
            Vec::new()
        }
    }

    /// Whether the model may call tools. That it has to call one is a constraint, which the engine has none for yet.
    fn may_call(&self, found: &mut Violations) -> bool {
        match &self.tool_choice {
            None | Some(Value::Null) => return true,
            Some(Value::String(choice)) if choice == "none" => return false,
            Some(Value::String(choice)) if choice == "auto" => {}
            Some(Value::String(choice)) if choice != "required" => {
                let description =
                    format!("is {choice:?}; expected none, auto, required or a function");
                found.add("tool_choice", description);
            }
            Some(_) => {
                let description = "makes the model call a tool, which this server cannot do yet; use auto or none";
                found.add("tool_choice", description);
            }
        }
        if self.tools.as_ref().is_none_or(Vec::is_empty) {
            found.add(
                "tool_choice",
                "is given and tools is not; leave it out or give tools",
            );
        }
        true
    }
}

fn check_tool(index: usize, tool: &Value, found: &mut Violations) {
    let path = format!("tools[{index}]");
    match tool.get("type").and_then(Value::as_str) {
        Some("function") => {}
        Some(other) => {
            let description = format!("is {other:?}; only function is supported");
            found.add(format!("{path}.type"), description);
            return;
        }
        None => {
            found.add(format!("{path}.type"), "is missing; expected function");
            return;
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
    }
    let parameters = function.and_then(|it| it.get("parameters"));
    if parameters.is_some_and(|it| !it.is_object() && !it.is_null()) {
        found.add(
            format!("{path}.function.parameters"),
            "is not a JSON object",
        );
    }
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

    fn checked(text: &str) -> (usize, Vec<String>) {
        let tools: Tools = json::fields(text.as_bytes()).unwrap();
        let mut found = Violations::default();
        let shown = tools.for_the_template(&mut found).len();
        let fields = found.fields().into_iter().map(str::to_owned).collect();
        (shown, fields)
    }

    #[test]
    fn tools_are_shown_unless_none_may_be_called() {
        let tools =
            r#""tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]"#;
        for (choice, shown, field) in [
            ("null", 1, None),
            ("\"auto\"", 1, None),
            ("\"none\"", 0, None),
            ("\"required\"", 1, Some("tool_choice")),
            ("\"often\"", 1, Some("tool_choice")),
            (
                r#"{"type": "function", "function": {"name": "f"}}"#,
                1,
                Some("tool_choice"),
            ),
        ] {
            let text = format!("{{{tools}, \"tool_choice\": {choice}}}");
            let fields: Vec<String> = field.into_iter().map(str::to_owned).collect();
            assert_eq!(checked(&text), (shown, fields), "{choice}");
        }
        assert_eq!(checked(r#"{"tool_choice": "auto"}"#).1, ["tool_choice"]);
    }

    #[test]
    fn a_tool_is_checked_part_by_part() {
        for (tool, field) in [
            ("{}", "tools[0].type"),
            (r#"{"type": "web_search"}"#, "tools[0].type"),
            (r#"{"type": "function"}"#, "tools[0].function.name"),
            (
                r#"{"type": "function", "function": {"name": "f", "parameters": 1}}"#,
                "tools[0].function.parameters",
            ),
        ] {
            assert_eq!(checked(&format!("{{\"tools\": [{tool}]}}")).1, [field]);
        }
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
