//! `{% generation %}` … `{% endgeneration %}`: a tag that transformers adds to Jinja to mark what an
//! assistant said, for training. It prints its body, so a block that is always entered replaces it;
//! the dashes that trim white space stay where they are.

/// Replaces the tags in a template's source.
pub(crate) fn replace(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        match rewritten(tag) {
            Some((replacement, length)) => {
                out.push_str(&replacement);
                rest = &tag[length..];
            }
            None => {
                out.push_str("{%");
                rest = &tag["{%".len()..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// What replaces the tag that `text` starts with, and the tag's length in bytes.
fn rewritten(text: &str) -> Option<(String, usize)> {
    let end = text.find("%}")?;
    let inside = &text["{%".len()..end];
    let name = inside.trim_matches(['-', '+']).trim();
    let replacement = match name {
        "generation" => "if true",
        "endgeneration" => "endif",
        _ => return None,
    };
    Some((
        format!("{{%{}%}}", inside.replacen(name, replacement, 1)),
        end + "%}".len(),
    ))
}

#[cfg(test)]
mod tests {
    use super::replace;

    #[test]
    fn tags_become_a_block_that_is_always_entered() {
        assert_eq!(
            replace(
                "a {%- generation -%} b {% endgeneration %}{% if x %}{{ generation }}{% endif %}"
            ),
            "a {%- if true -%} b {% endif %}{% if x %}{{ generation }}{% endif %}"
        );
        assert_eq!(replace("{% unfinished"), "{% unfinished");
        assert_eq!(replace("no tags"), "no tags");
    }
}
