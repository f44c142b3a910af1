//! How large a regular expression is once its repetitions are written out. `(a{100}){100}` is ten thousand characters: the
//! library would make them all.

use regex_syntax::ast::{Ast, RepetitionKind, RepetitionRange, parse};

use super::GrammarError;
use super::limits::MAX_REGEX_CHARS;

/// Refuses what is too large. What does not parse is left to the library, which says why.
pub(super) fn check(regex: &str) -> Result<(), GrammarError> {
    let Ok(ast) = parse::Parser::new().parse(regex) else {
        return Ok(());
    };
    let found = chars(&ast);
    if found > MAX_REGEX_CHARS {
        return Err(GrammarError::TooLarge {
            what: "the characters of a regular expression, its repetitions written out, are",
            found,
            limit: MAX_REGEX_CHARS,
        });
    }
    Ok(())
}

/// The parser has bounded the levels.
fn chars(ast: &Ast) -> usize {
    let sum = |parts: &[Ast]| parts.iter().map(chars).fold(0, usize::saturating_add);
    match ast {
        Ast::Empty(_) | Ast::Flags(_) | Ast::Assertion(_) => 0,
        Ast::Literal(_)
        | Ast::Dot(_)
        | Ast::ClassUnicode(_)
        | Ast::ClassPerl(_)
        | Ast::ClassBracketed(_) => 1,
        Ast::Group(group) => chars(&group.ast),
        Ast::Alternation(alternation) => sum(&alternation.asts),
        Ast::Concat(concat) => sum(&concat.asts),
        Ast::Repetition(repetition) => {
            let most = match &repetition.op.kind {
                RepetitionKind::Range(
                    RepetitionRange::Exactly(most)
                    | RepetitionRange::AtLeast(most)
                    | RepetitionRange::Bounded(_, most),
                ) => (*most).max(1),
                _ => 1,
            };
            chars(&repetition.ast).saturating_mul(most as usize)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_written_out() {
        for (regex, expected) in [
            ("abc", 3),
            ("(a|bc)*", 3),
            ("([a-z]\\d){2,5}x+", 11),
            ("(a{100}){100}", 10_000),
            ("^a{0}$", 1),
            (
                "((((a{1000}){1000}){1000}){1000}){1000}",
                1_000_000_000_000_000,
            ),
        ] {
            let ast = parse::Parser::new().parse(regex).unwrap();
            assert_eq!(chars(&ast), expected, "{regex}");
        }
        assert!(check("(a{100}){200}").is_ok() && check("(a{100}){201}").is_err());
        assert!(check("(").is_ok());
    }
}
