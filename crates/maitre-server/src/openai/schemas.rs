//! Schemas of fields that may be written in several ways, for `/openapi.json`.

use utoipa::openapi::Schema;
use utoipa::openapi::schema::{
    AnyOfBuilder, ArrayBuilder, ArrayItems, ObjectBuilder, SchemaType, Type,
};

fn of(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Type(kind))
}

fn token_id() -> ObjectBuilder {
    of(Type::Integer).minimum(Some(0)).maximum(Some(u32::MAX))
}

fn list(items: impl Into<ArrayItems>) -> ArrayBuilder {
    ArrayBuilder::new().items(items)
}

/// Any of these, or null.
macro_rules! any_of {
    ($description:expr, $($item:expr),+ $(,)?) => {
        one_of!($description, $($item),+, of(Type::Null))
    };
}

/// Any of these.
macro_rules! one_of {
    ($description:expr, $($item:expr),+ $(,)?) => {{
        let any = AnyOfBuilder::new().description(Some($description));
        $(let any = any.item($item);)+
        Schema::AnyOf(any.build())
    }};
}

/// A JSON schema, as an object or as text.
pub(super) fn json_schema() -> Schema {
    any_of!(
        "A JSON schema, as an object or as text.",
        of(Type::Object),
        of(Type::String)
    )
}

/// An object, or the text of one.
pub(super) fn object_or_text() -> Schema {
    any_of!(
        "An object, or the text of one.",
        of(Type::Object),
        of(Type::String)
    )
}

/// One stop string, or several.
pub(super) fn stop() -> Schema {
    any_of!(
        "Texts that end the answer: one, or a list of at most 64, each of at most 1024 bytes.",
        of(Type::String).max_length(Some(1024)),
        list(of(Type::String).min_length(Some(1)).max_length(Some(1024))).max_items(Some(64)),
    )
}

/// A prompt in all its forms.
pub(super) fn prompt() -> Schema {
    one_of!(
        "A text, the ids of its tokens, or a list of either, of at most 1024 prompts.",
        of(Type::String).min_length(Some(1)),
        list(token_id()).min_items(Some(1)),
        list(of(Type::String))
            .min_items(Some(1))
            .max_items(Some(1024)),
        list(list(token_id()).min_items(Some(1)))
            .min_items(Some(1))
            .max_items(Some(1024)),
    )
}

/// Biases of logits by token id.
pub(super) fn logit_bias() -> Schema {
    let bias = of(Type::Number).minimum(Some(-100)).maximum(Some(100));
    any_of!(
        "Added to the logits of single tokens, by id, each in [-100, 100]; at most 1024.",
        of(Type::Object)
            .property_names(Some(of(Type::String).pattern(Some("^[0-9]{1,10}$"))))
            .additional_properties(Some(bias)),
    )
}

/// What a message says.
pub(super) fn content() -> Schema {
    let part = of(Type::Object)
        .property("type", of(Type::String))
        .property("text", of(Type::String))
        .required("type");
    any_of!(
        "A text, or a list of parts: `{\"type\": \"text\", \"text\": …}`.",
        of(Type::String),
        list(part)
    )
}

/// A call's arguments.
pub(super) fn arguments() -> Schema {
    any_of!(
        "A JSON object, as text or as it is.",
        of(Type::String),
        of(Type::Object)
    )
}

/// What the model may call.
pub(super) fn tools() -> Schema {
    let function = of(Type::Object)
        .property(
            "name",
            of(Type::String).pattern(Some("^[A-Za-z0-9_./-]{1,128}$")),
        )
        .property("description", any_of!("What it does.", of(Type::String)))
        .property(
            "parameters",
            any_of!("A JSON schema of an object.", of(Type::Object)),
        )
        .property(
            "strict",
            any_of!("Whether calls follow the schema.", of(Type::Boolean)),
        )
        .required("name");
    let tool = of(Type::Object)
        .property("type", of(Type::String).enum_values(Some(["function"])))
        .property("function", function)
        .required("type")
        .required("function");
    any_of!("What the model may call.", list(tool))
}

/// Whether the model calls tools, and which.
pub(super) fn tool_choice() -> Schema {
    let function = || {
        of(Type::Object)
            .property("type", of(Type::String).enum_values(Some(["function"])))
            .property(
                "function",
                of(Type::Object)
                    .property("name", of(Type::String))
                    .required("name"),
            )
            .required("type")
            .required("function")
    };
    let mode = of(Type::String).enum_values(Some(["auto", "required"]));
    let allowed = of(Type::Object)
        .property("mode", mode)
        .property("tools", list(function()).min_items(Some(1)))
        .required("mode")
        .required("tools");
    let allowed = of(Type::Object)
        .property(
            "type",
            of(Type::String).enum_values(Some(["allowed_tools"])),
        )
        .property("allowed_tools", allowed)
        .required("type")
        .required("allowed_tools");
    any_of!(
        "`none`, `auto` (the default), `required`, the one to call, or those that may be called.",
        of(Type::String).enum_values(Some(["none", "auto", "required"])),
        function(),
        allowed,
    )
}
