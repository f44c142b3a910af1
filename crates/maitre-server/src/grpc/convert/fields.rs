//! How the messages of the API name the fields of the engine's request.

/// The messages follow the engine's request but for five places: `n` is a sampling parameter there,
/// template arguments are JSON, a grammar is a constraint, tools stand beside the messages, and a protobuf `oneof` is not part of a path.
pub(crate) fn field_name(engine: &str) -> String {
    match engine {
        "n" => "sampling.n".to_owned(),
        "template_kwargs" => "template_kwargs_json".to_owned(),
        "grammar" => "constraint".to_owned(),
        "parts.tools" => "tools".to_owned(),
        "parts.tool_choice" => "tool_choice".to_owned(),
        "parts.thinking_token_budget" => "reasoning.token_budget".to_owned(),
        _ if engine.starts_with("grammar.") => engine.replacen("grammar", "constraint", 1),
        _ => match engine.strip_prefix("input.token_ids") {
            Some(index) => format!("token_ids.ids{index}"),
            None => engine.strip_prefix("input.").unwrap_or(engine).to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_paths_become_message_paths() {
        for (engine, message) in [
            ("n", "sampling.n"),
            ("template_kwargs", "template_kwargs_json"),
            ("input.text", "text"),
            ("input.token_ids", "token_ids.ids"),
            ("input.token_ids[7]", "token_ids.ids[7]"),
            ("messages", "messages"),
            ("parts.tools", "tools"),
            ("parts.tool_choice", "tool_choice"),
            ("grammar", "constraint"),
            ("grammar.json_schema", "constraint.json_schema"),
            ("stopping.stop[3]", "stopping.stop[3]"),
        ] {
            assert_eq!(field_name(engine), message);
        }
    }
}
