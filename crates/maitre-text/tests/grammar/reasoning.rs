//! Reasoning first, then the grammar.

use std::sync::Arc;

use maitre_sampling::{Constraint, ConstraintSource, TokenMask};
use maitre_text::grammar::{AfterReasoning, GrammarSpec, ReasoningEnd};

use crate::walk::{EOS, TOKENIZER, compile, text, walk, write};

fn end(mark: &str) -> ReasoningEnd {
    ReasoningEnd::new(&TOKENIZER, TOKENIZER.num_tokens(), &EOS, mark).unwrap()
}

fn after(mark: &str) -> AfterReasoning {
    let inner = compile(&GrammarSpec::Choice(vec!["yes".into(), "no".into()])).unwrap();
    AfterReasoning::new(inner, end(mark))
}

fn mask(constraint: &mut dyn Constraint) -> TokenMask {
    let mut masks = [TokenMask::new(TOKENIZER.num_tokens())];
    constraint.masks(&[], &mut masks);
    let [mask] = masks;
    mask
}

/// Puts tokens in, as far as they are allowed: how many were, and whether the answer may end there.
fn put(source: &dyn ConstraintSource, tokens: &[u32]) -> (usize, bool) {
    let mut constraint = source.start();
    for (index, &token) in tokens.iter().enumerate() {
        if !mask(&mut *constraint).allows(token) {
            return (index, constraint.is_complete());
        }
        constraint.advance(&[token]);
    }
    (tokens.len(), constraint.is_complete())
}

#[test]
fn everything_may_come_before_the_mark() {
    let source = after("</think>");
    for (text, expected) in [
        ("well, no matter </think>yes", true),
        ("</think>\n\nyes", true),
        ("</thin </th</think> no", true),
        ("a</think>maybe", false),
        ("a</think>\n\n\n\n\n\n\n\nyes", false),
        ("yes", false),
    ] {
        let found = write(&source, text) == (text.len(), true);
        assert_eq!(found, expected, "{text}");
    }
    assert!(
        !mask(&mut *source.start()).allows(EOS[0]),
        "no end before the answer"
    );
}

/// A token that holds the mark and more would smuggle the beginning of an answer in.
#[test]
fn no_token_crosses_the_mark() {
    let (id, bytes) = (0..TOKENIZER.num_tokens() as u32)
        .filter_map(|id| Some((id, TOKENIZER.token_bytes(id)?)))
        .find(|(id, bytes)| {
            bytes.len() >= 3
                && bytes.is_ascii()
                && bytes[0] != bytes[1]
                && !TOKENIZER.is_special(*id)
        })
        .unwrap();
    let start = String::from_utf8(bytes[..2].to_vec()).unwrap();
    let whole = String::from_utf8(bytes.to_vec()).unwrap();
    let allows = |mark: &str| mask(&mut *after(mark).start()).allows(id);
    assert!(!allows(&start) && allows(&whole) && allows("</think>"));
    // Behind the first half of a mark, too.
    let mark = format!("Q{start}");
    let source = after(&mark);
    let mut constraint = source.start();
    assert!(mask(&mut *constraint).allows(id));
    constraint.advance(&TOKENIZER.encode_plain("Q").unwrap());
    assert!(!mask(&mut *constraint).allows(id));
}

/// Masks behind drafts are those of the answer that the drafts would make, across the mark, the gap and the answer.
#[test]
fn drafts_cross_the_mark() {
    let source = after("</t>");
    let tokens = TOKENIZER.encode_plain("ok</t>\nyes").unwrap();
    for known in 0..tokens.len() {
        let mut constraint = source.start();
        if known > 0 {
            constraint.advance(&tokens[..known]);
        }
        let drafts = &tokens[known..];
        let mut masks = vec![TokenMask::new(TOKENIZER.num_tokens()); drafts.len() + 1];
        constraint.masks(drafts, &mut masks);
        let mut plain = source.start();
        tokens[..known].iter().for_each(|it| plain.advance(&[*it]));
        for (index, found) in masks.iter().enumerate() {
            assert_eq!(*found, mask(&mut *plain), "{known} + {index}");
            if let Some(draft) = drafts.get(index) {
                plain.advance(&[*draft]);
            }
        }
        assert!(plain.is_complete());
    }
}

#[test]
fn a_mark_that_is_a_token_is_that_token() {
    let special = (0..TOKENIZER.num_tokens() as u32)
        .find(|id| TOKENIZER.is_special(*id) && !EOS.contains(id))
        .unwrap();
    let name = TOKENIZER.token_text(special).unwrap();
    let mut tokens = TOKENIZER.encode_plain("hm").unwrap();
    tokens.push(special);
    tokens.extend(TOKENIZER.encode_plain("no").unwrap());
    assert_eq!(put(&after(&name), &tokens), (tokens.len(), true));
    assert!(end(&name).has_passed(&[1, special]));
    assert!(!end(&name).has_passed(&[special, 400]));
}

#[test]
fn a_prompt_may_have_passed_the_mark() {
    for (prompt, expected) in [
        ("<think>\n\n</think>\n\n", true),
        ("a</think>", true),
        ("a</think>b", false),
        ("<think>", false),
        ("", false),
    ] {
        let tokens = TOKENIZER.encode_plain(prompt).unwrap();
        assert_eq!(end("</think>").has_passed(&tokens), expected, "{prompt}");
    }
    assert!(ReasoningEnd::new(&TOKENIZER, TOKENIZER.num_tokens(), &EOS, "").is_none());
}

#[test]
fn answers_at_random_end_in_the_form() {
    let source: Arc<dyn ConstraintSource> = Arc::new(after("e"));
    let mut complete = 0;
    for seed in 0..20 {
        let (tokens, is_complete) = walk(&*source, seed, 200);
        let text = text(&tokens);
        if is_complete {
            complete += 1;
            assert!(text.ends_with("yes") || text.ends_with("no"), "{text}");
        }
    }
    assert!(complete > 5, "{complete}");
}
