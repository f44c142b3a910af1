//! Tools that a conversation may call, and the calls in it.

use std::collections::HashSet;
use std::sync::Arc;

use maitre_engine::{self as engine, PartOptions, TextError, Tool, ToolChoice};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::schemas;
use crate::service::violations::Violations;

/// The fields about tools.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
pub(super) struct Tools {
    /// What the model may call: `{"type": "function", "function": {name, description, parameters, strict}}`.
    #[schema(schema_with = schemas::tools)]
    pub(super) tools: Option<Vec<Value>>,
    /// `none`, `auto` (the default), `required`, the one to call (`{"type": "function", "function": {"name": …}}`), or
    /// those that may be called (`{"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required", "tools":
    /// […]}}`).
    #[schema(schema_with = schemas::tool_choice)]
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
    #[schema(schema_with = schemas::arguments)]
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

/// What `tool_choice` says.
struct Choice {
    choice: ToolChoice,
    /// The tools that may be called, where not all of them may.
    allowed: Option<Vec<String>>,
}

impl From<ToolChoice> for Choice {
    fn from(choice: ToolChoice) -> Self {
        Self {
            choice,
            allowed: None,
        }
    }
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
        let Choice { choice, allowed } = self.choice(found);
        if let Some(allowed) = &allowed {
            check_allowed(allowed, &names, found);
        }
        let is_allowed = |tool: &Tool| allowed.as_ref().is_none_or(|it| it.contains(&tool.name));
        // What is wrong with a tool has been found above.
        let tools = match found.len() == before {
            true => engine::Tools::new(tools.iter().filter(|it| is_allowed(it)).cloned().collect())
                .unwrap_or_default(),
            false => engine::Tools::default(),
        };
        let tools = match allowed {
            Some(_) => tools.exclusive(),
            None => tools,
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
    fn choice(&self, found: &mut Violations) -> Choice {
        let choice = match &self.tool_choice {
            None | Some(Value::Null) => return ToolChoice::Auto.into(),
            Some(Value::String(choice)) => match choice.as_str() {
                "none" => return ToolChoice::None.into(),
                "auto" => ToolChoice::Auto.into(),
                "required" => ToolChoice::Required.into(),
                other => {
                    let description = format!(
                        "is {other:?}; expected none, auto, required, a function or allowed_tools"
                    );
                    found.add("tool_choice", description);
                    return ToolChoice::Auto.into();
                }
            },
            Some(given) => match given_choice(given, found) {
                Some(choice) => choice,
                None => return ToolChoice::Auto.into(),
            },
        };
        if self.tools.as_ref().is_none_or(Vec::is_empty) {
            found.add(
                "tool_choice",
                "is given and tools is not; leave it out or give tools",
            );
            return ToolChoice::Auto.into();
        }
        choice
    }
}

impl CheckedTools {
    /// How the engine takes the answer apart. A call that is required is well-formed as far as it goes, so what there
    /// is of one that `max_tokens` cuts off is returned as a call.
    pub(super) fn parts(self, streams: bool) -> PartOptions {
        let is_required = matches!(self.choice, ToolChoice::Required | ToolChoice::Named(_));
        PartOptions {
            tools: Arc::new(self.tools),
            tool_choice: self.choice,
            parallel_tool_calls: self.parallel,
            whole_calls: !streams && !is_required,
            ..PartOptions::default()
        }
    }
}

/// A `tool_choice` that is no word: `{"type": "function", "function": {"name": …}}`, or `{"type": "allowed_tools",
/// "allowed_tools": {"mode": …, "tools": […]}}`.
fn given_choice(given: &Value, found: &mut Violations) -> Option<Choice> {
    match given.get("type") {
        Some(kind) if kind == "allowed_tools" => allowed_tools(given, found),
        Some(kind) if kind != "function" => {
            let description = format!("is {kind}; expected function or allowed_tools");
            found.add("tool_choice.type", description);
            None
        }
        _ => {
            let name = given.pointer("/function/name").and_then(Value::as_str);
            if name.is_none() {
                let description = "names no function; expected {\"type\": \"function\", \"function\": {\"name\": ...}}";
                found.add("tool_choice", description);
            }
            name.map(|name| ToolChoice::Named(name.to_owned()).into())
        }
    }
}

/// The tools that may be called, of those that are shown.
fn allowed_tools(given: &Value, found: &mut Violations) -> Option<Choice> {
    const FIELD: &str = "tool_choice.allowed_tools";
    let before = found.len();
    // OpenAI's newer API has mode and tools beside the type.
    let allowed = given.get("allowed_tools").unwrap_or(given);
    let choice = match allowed.get("mode").and_then(Value::as_str) {
        Some("auto") => ToolChoice::Auto,
        Some("required") => ToolChoice::Required,
        other => {
            let description = match other {
                Some(mode) => format!("is {mode:?}; expected auto or required"),
                None => "is missing; expected auto or required".to_owned(),
            };
            found.add(format!("{FIELD}.mode"), description);
            ToolChoice::Auto
        }
    };
    let tools = allowed.get("tools").and_then(Value::as_array);
    let tools = tools.map_or(&[][..], Vec::as_slice);
    if tools.is_empty() {
        let description = "names no tool; expected a list of {\"type\": \"function\", \"function\": {\"name\": ...}}";
        found.add(format!("{FIELD}.tools"), description);
    }
    let mut names = Vec::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        let name = tool.get("function").unwrap_or(tool).get("name");
        match name.and_then(Value::as_str) {
            Some(name) => names.push(name.to_owned()),
            None => found.add(
                format!("{FIELD}.tools[{index}]"),
                "names no function; expected {\"type\": \"function\", \"function\": {\"name\": ...}}",
            ),
        }
    }
    (found.len() == before).then_some(Choice {
        choice,
        allowed: Some(names),
    })
}

fn check_allowed(allowed: &[String], names: &HashSet<&str>, found: &mut Violations) {
    for (index, name) in allowed.iter().enumerate() {
        if !names.contains(name.as_str()) {
            found.add(
                format!("tool_choice.allowed_tools.tools[{index}]"),
                format!("is {name:?}, which is not among tools"),
            );
        }
    }
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
                r#"{"type": "browser"}"#,
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
    fn all_tools_are_shown_and_those_that_are_allowed_may_be_called() {
        let tool =
            |name: &str| format!(r#"{{"type": "function", "function": {{"name": "{name}"}}}}"#);
        let of = |choice: &str| {
            let tools = [tool("f"), tool("g"), tool("h")].join(", ");
            checked(&format!(
                r#"{{"tools": [{tools}], "tool_choice": {choice}}}"#
            ))
        };
        let allowed = |mode: &str, tools: &str| {
            format!(
                r#"{{"type": "allowed_tools", "allowed_tools": {{"mode": "{mode}", "tools": [{tools}]}}}}"#
            )
        };
        let (f, h) = (tool("f"), r#"{"type": "function", "name": "h"}"#);
        for (mode, choice) in [
            ("auto", ToolChoice::Auto),
            ("required", ToolChoice::Required),
        ] {
            let (found, fields) = of(&allowed(mode, &format!("{f}, {h}")));
            assert!(fields.is_empty(), "{fields:?}");
            let names: Vec<&str> = found.tools.iter().map(|it| it.name.as_str()).collect();
            assert_eq!((found.shown.len(), names), (3, vec!["f", "h"]));
            assert!(found.tools.is_exclusive());
            assert_eq!(found.choice, choice);
        }
        let flat = format!(r#"{{"type": "allowed_tools", "mode": "auto", "tools": [{f}]}}"#);
        assert_eq!(of(&flat).0.tools.iter().count(), 1);
        for (choice, field) in [
            (allowed("often", &f), "mode"),
            (allowed("auto", ""), "tools"),
            (allowed("auto", &tool("x")), "tools[0]"),
            (allowed("auto", &format!("{f}, 1")), "tools[1]"),
        ] {
            let expected = format!("tool_choice.allowed_tools.{field}");
            assert_eq!(of(&choice).1, [expected], "{choice}");
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
