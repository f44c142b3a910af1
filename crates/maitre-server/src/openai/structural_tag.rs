//! Structural tags: an answer is free but for what stands between marks, which follows a schema.

use maitre_engine::{StructuralTag, Tag};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::plain_words::described;
use crate::service::violations::Violations;

/// Tags as they are written: `{"structures": [{"begin", "schema", "end"}], "triggers": […]}`, or in xgrammar's newer way
/// `{"format": {"type": "triggered_tags", "triggers": […], "tags": [{"begin", "content", "end"}]}}`.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct StructuralTagText {
    #[serde(default)]
    structures: Option<Vec<Structure>>,
    #[serde(default)]
    triggers: Option<Vec<String>>,
    #[serde(default)]
    format: Option<Value>,
}

/// What stands between two marks.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub(super) struct Structure {
    begin: String,
    #[serde(default)]
    schema: Option<Map<String, Value>>,
    end: String,
}

#[derive(Debug, Deserialize)]
struct TriggeredTags {
    r#type: String,
    #[serde(default)]
    triggers: Vec<String>,
    #[serde(default)]
    tags: Vec<ContentTag>,
}

#[derive(Debug, Deserialize)]
struct ContentTag {
    begin: String,
    content: Content,
    end: String,
}

#[derive(Debug, Deserialize)]
struct Content {
    r#type: String,
    #[serde(default)]
    json_schema: Option<Map<String, Value>>,
}

impl StructuralTagText {
    pub(super) fn new(
        structures: Option<Vec<Structure>>,
        triggers: Option<Vec<String>>,
        format: Option<Value>,
    ) -> Self {
        Self {
            structures,
            triggers,
            format,
        }
    }

    /// From an object, or the text of one.
    pub(super) fn of(given: &Value, field: &str, found: &mut Violations) -> Option<Self> {
        let read = match given {
            Value::String(text) => serde_json::from_str(text),
            other => serde_json::from_value(other.clone()),
        };
        read.map_err(|error| {
            let said = described(&error);
            found.add(field, format!("cannot be read as a structural tag: {said}"));
        })
        .ok()
    }

    /// What it says; `field` is what it stands in.
    pub(super) fn read(self, field: &str, found: &mut Violations) -> Option<StructuralTag> {
        if let Some(format) = self.format {
            return of_triggered_tags(format, field, found);
        }
        let (Some(structures), Some(triggers)) = (self.structures, self.triggers) else {
            found.add(field, "has no structures and triggers; expected both");
            return None;
        };
        let tags = structures.into_iter().map(|structure| Tag {
            begin: structure.begin,
            schema: Value::Object(structure.schema.unwrap_or_default()).to_string(),
            end: structure.end,
        });
        Some(StructuralTag {
            tags: tags.collect(),
            triggers,
        })
    }
}

fn of_triggered_tags(format: Value, field: &str, found: &mut Violations) -> Option<StructuralTag> {
    let read = serde_json::from_value::<TriggeredTags>(format);
    let read = match read {
        Ok(read) if read.r#type == "triggered_tags" => read,
        Ok(TriggeredTags { r#type, .. }) => {
            let description =
                format!("has a format of type {type:?}; this server knows triggered_tags");
            found.add(field, description);
            return None;
        }
        Err(error) => {
            let said = described(&error);
            found.add(
                field,
                format!("has a format that cannot be read as triggered_tags: {said}"),
            );
            return None;
        }
    };
    let mut tags = Vec::with_capacity(read.tags.len());
    for tag in read.tags {
        let Some(schema) = tag.content.json_schema else {
            let kind = tag.content.r#type;
            let description =
                format!("has a tag with content of type {kind:?}; this server knows json_schema");
            found.add(field, description);
            return None;
        };
        tags.push(Tag {
            begin: tag.begin,
            schema: Value::Object(schema).to_string(),
            end: tag.end,
        });
    }
    Some(StructuralTag {
        tags,
        triggers: read.triggers,
    })
}
