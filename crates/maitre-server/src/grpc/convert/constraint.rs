//! What the answers of a request have to look like.

use maitre_engine::{GrammarOptions, GrammarSpec, JsonWhitespace, StructuralTag, Tag};
use maitre_proto::v1;
use v1::constraint_options::Form;

use crate::service::violations::Violations;

/// The form of the answers; what it says is the engine's to check.
pub(super) fn grammar(
    given: v1::ConstraintOptions,
    found: &mut Violations,
) -> Option<GrammarOptions> {
    let whitespace = whitespace(given.json_whitespace, found);
    let spec = match given.form {
        Some(Form::JsonSchema(schema)) => GrammarSpec::JsonSchema { schema, whitespace },
        Some(Form::Regex(regex)) => GrammarSpec::Regex(regex),
        Some(Form::Grammar(grammar)) => GrammarSpec::Grammar(grammar),
        Some(Form::Choice(choice)) => GrammarSpec::Choice(choice.texts),
        Some(Form::JsonObject(true)) => GrammarSpec::JsonObject { whitespace },
        Some(Form::JsonObject(false)) => {
            found.add(
                "constraint.json_object",
                "is false; leave it out, or ask for an object with true",
            );
            return None;
        }
        Some(Form::StructuralTag(tag)) => GrammarSpec::StructuralTag(structural_tag(tag)),
        None => {
            found.add("constraint", "has no form; give one, or no constraint");
            return None;
        }
    };
    let end = given.reasoning_end;
    Some(GrammarOptions {
        spec,
        reasoning_end: (!end.is_empty()).then_some(end),
    })
}

fn structural_tag(given: v1::StructuralTag) -> StructuralTag {
    let tags = given.tags.into_iter().map(|tag| Tag {
        begin: tag.begin,
        schema: tag.json_schema,
        end: tag.end,
    });
    StructuralTag {
        tags: tags.collect(),
        triggers: given.triggers,
    }
}

fn whitespace(given: i32, found: &mut Violations) -> JsonWhitespace {
    match v1::JsonWhitespace::try_from(given) {
        Ok(v1::JsonWhitespace::Unspecified | v1::JsonWhitespace::Flexible) => {
            JsonWhitespace::Flexible
        }
        Ok(v1::JsonWhitespace::Compact) => JsonWhitespace::Compact,
        Err(_) => {
            let description = format!("is {given}; expected 0 or 1 (flexible), or 2 (compact)");
            found.add("constraint.json_whitespace", description);
            JsonWhitespace::Flexible
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(form: Option<Form>, whitespace: i32) -> (Option<GrammarSpec>, Vec<String>) {
        let mut found = Violations::default();
        let given = v1::ConstraintOptions {
            form,
            json_whitespace: whitespace,
            reasoning_end: "</think>".into(),
        };
        let options = grammar(given, &mut found);
        let end = options.as_ref().and_then(|it| it.reasoning_end.clone());
        assert_eq!(end.is_some(), options.is_some());
        let fields = found.fields().into_iter().map(String::from).collect();
        (options.map(|it| it.spec), fields)
    }

    #[test]
    fn each_form_arrives() {
        let compact = JsonWhitespace::Compact;
        let schema = || "{}".to_owned();
        let tag = v1::StructuralTag {
            tags: vec![v1::Tag {
                begin: "<a>".into(),
                json_schema: schema(),
                end: "</a>".into(),
            }],
            triggers: vec!["<a".into()],
        };
        let same_tag = StructuralTag {
            tags: vec![Tag {
                begin: "<a>".into(),
                schema: schema(),
                end: "</a>".into(),
            }],
            triggers: vec!["<a".into()],
        };
        let texts = vec!["a".to_owned(), "b".to_owned()];
        for (form, expected) in [
            (
                Form::JsonSchema(schema()),
                GrammarSpec::JsonSchema {
                    schema: schema(),
                    whitespace: compact,
                },
            ),
            (Form::Regex("a+".into()), GrammarSpec::Regex("a+".into())),
            (Form::Grammar("g".into()), GrammarSpec::Grammar("g".into())),
            (
                Form::Choice(v1::Choice {
                    texts: texts.clone(),
                }),
                GrammarSpec::Choice(texts),
            ),
            (
                Form::JsonObject(true),
                GrammarSpec::JsonObject {
                    whitespace: compact,
                },
            ),
            (
                Form::StructuralTag(tag),
                GrammarSpec::StructuralTag(same_tag),
            ),
        ] {
            assert_eq!(converted(Some(form), 2), (Some(expected), vec![]));
        }
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for (form, whitespace, field) in [
            (None, 0, "constraint"),
            (Some(Form::JsonObject(false)), 0, "constraint.json_object"),
            (
                Some(Form::JsonObject(true)),
                3,
                "constraint.json_whitespace",
            ),
        ] {
            assert_eq!(converted(form, whitespace).1, [field]);
        }
    }
}
