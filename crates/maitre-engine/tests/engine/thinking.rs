//! Budgets for thoughts.

use maitre_engine::{PartOptions, ToolChoice};

use crate::bundled::builder;
use crate::parts::{answers, engine, options, request, sum};

/// A model that never stops thinking is stopped, where its answer is free and where it has to call a tool; one that
/// stops by itself is left alone.
#[tokio::test]
async fn a_thought_ends_when_its_budget_is_spent() {
    let engine = engine().build().unwrap();
    let id = |mark: &str| crate::toy::tokenizer().special_token_id(mark).unwrap();
    let thinking = |budget, closes: f32, choice: ToolChoice| {
        let mut request = request(PartOptions {
            thinking_token_budget: Some(budget),
            tool_choice: choice,
            parallel_tool_calls: false,
            ..options(&[sum()])
        });
        request.sampling.logit_bias = vec![(id("<think>"), 20.0), (id("</think>"), closes)];
        request.n = 2;
        request
    };
    let forced = crate::toy::tokenizer().encode("\n</think>").unwrap();
    for choice in [ToolChoice::None, ToolChoice::Required] {
        for budget in [0, 1, 10] {
            let request = thinking(budget, -100.0, choice.clone());
            for answer in answers(&engine, request).await.unwrap() {
                let at = answer.token_ids.iter().position(|&it| it == id("</think>"));
                assert_eq!(
                    at,
                    Some(budget as usize + forced.len()),
                    "{choice:?} {budget} {answer:?}"
                );
                let calls = usize::from(choice == ToolChoice::Required);
                assert_eq!(answer.calls.len(), calls, "{answer:?}");
            }
        }
    }
    for answer in answers(&engine, thinking(100, 100.0, ToolChoice::None))
        .await
        .unwrap()
    {
        assert_eq!(answer.token_ids[1], id("</think>"), "{answer:?}");
    }
    // A thought that begins anew has what the first one left.
    let mut again = thinking(3, -100.0, ToolChoice::None);
    again.sampling.logit_bias[0].1 = 100.0;
    again.stopping.max_tokens = Some(60);
    for answer in answers(&engine, again).await.unwrap() {
        let ids = answer.token_ids.iter();
        let opened = ids.filter(|&&it| it == id("<think>")).count();
        let closed = answer
            .token_ids
            .iter()
            .filter(|&&it| it == id("</think>"))
            .count();
        assert!(closed > 5 && opened.abs_diff(closed) <= 4, "{answer:?}");
    }
    // A model whose thoughts are not known has no budget for them.
    let plain = builder().build().unwrap();
    let request = thinking(5, 0.0, ToolChoice::None);
    let error = answers(&plain, request).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("parts.thinking_token_budget: is given"),
        "{error}"
    );
}
