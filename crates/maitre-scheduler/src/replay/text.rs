//! Calls as lines of text: what is written and how it is read again.
//!
//! A line is words between blanks: the verb, then what it needs. A request is written with everything that
//! differs from [`NewRequest::new`], as `key=value` or just `key`; the keys may be read in any order.

use std::fmt::{self, Display, Write as _};
use std::str::{FromStr, SplitWhitespace};

use maitre_kv::{BlockHash, Namespace};

use crate::replay::Call;
use crate::{
    BlockSource, NewRequest, Outcome, RequestId, StepId, TenantId, Time, TokenRef, TransferId,
};

/// A line that is not a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct BadCall {
    /// What should be there.
    pub expected: &'static str,
    /// What is there; empty at the end of the line.
    pub found: String,
}

impl Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(request) => write_request(f, request),
            Self::Cancel(request) => write!(f, "cancel {}", request.0),
            Self::Schedule { now } => write!(f, "schedule {}", Seconds(*now)),
            Self::Commit { step, outcomes } => {
                write!(f, "commit {}", step.0)?;
                outcomes
                    .iter()
                    .try_for_each(|outcome| write_outcome(f, outcome))
            }
            Self::Retract { step } => write!(f, "retract {}", step.0),
            Self::Settle { transfer, tokens } => {
                write!(f, "settle {} tokens={tokens}", transfer.0)
            }
            Self::Observe {
                tokens,
                took,
                moved_blocks,
                moving,
            } => {
                let (took, moving) = (Seconds(*took), Seconds(*moving));
                write!(
                    f,
                    "observe tokens={tokens} took={took} moved_blocks={moved_blocks} moving={moving}"
                )
            }
            Self::ResetPrefixCache => f.write_str("reset"),
        }
    }
}

fn write_request(f: &mut fmt::Formatter<'_>, request: &NewRequest) -> fmt::Result {
    let plain = NewRequest::new(request.id.0, Vec::new(), request.max_tokens);
    write!(f, "add {} prompt=", request.id.0)?;
    write_list(f, &request.prompt)?;
    write!(f, " max_tokens={}", request.max_tokens)?;
    if request.priority != plain.priority {
        write!(f, " priority={}", request.priority)?;
    }
    if request.tenant != plain.tenant {
        write!(f, " tenant={}", request.tenant.0)?;
    }
    if request.weight != plain.weight {
        write!(f, " weight={}", request.weight)?;
    }
    if request.arrival != plain.arrival {
        write!(f, " arrival={}", Seconds(request.arrival))?;
    }
    if let Some(at) = request.deadline {
        write!(f, " deadline={}", Seconds(at))?;
    }
    if let Some(at) = request.queue_deadline {
        write!(f, " queue_deadline={}", Seconds(at))?;
    }
    if request.namespace != plain.namespace {
        write!(f, " namespace={}", request.namespace.root())?;
    }
    if let Some(parent) = request.fork_of {
        write!(f, " fork_of={}", parent.0)?;
    }
    if let Some(BlockSource { source, tokens }) = request.source {
        write!(f, " source={source}:{tokens}")?;
    }
    let flags = [
        (request.prompt_logits, " prompt_logits"),
        (!request.read_cache, " no_cache_reads"),
        (!request.write_cache, " no_cache_writes"),
        (request.plan_ahead, " plan_ahead"),
    ];
    let set = flags.into_iter().filter(|(set, _)| *set);
    set.map(|(_, flag)| flag)
        .try_for_each(|flag| f.write_str(flag))
}

fn write_outcome(f: &mut fmt::Formatter<'_>, outcome: &Outcome) -> fmt::Result {
    write!(f, " {}=", outcome.request.0)?;
    write_list(f, &outcome.tokens)?;
    let flags = [
        (outcome.finished, "finished"),
        (outcome.failed, "failed"),
        (outcome.deferred, "deferred"),
    ];
    let mut separator = if outcome.tokens.is_empty() { "" } else { "," };
    if outcome.next_drafts > 0 {
        write!(f, "{separator}drafts={}", outcome.next_drafts)?;
        separator = ",";
    }
    for (_, flag) in flags.into_iter().filter(|(set, _)| *set) {
        write!(f, "{separator}{flag}")?;
        separator = ",";
    }
    Ok(())
}

fn write_list(f: &mut fmt::Formatter<'_>, tokens: &[u32]) -> fmt::Result {
    let mut tokens = tokens.iter();
    if let Some(first) = tokens.next() {
        write!(f, "{first}")?;
    }
    tokens.try_for_each(|token| write!(f, ",{token}"))
}

/// A time as `seconds.nanoseconds`, without loss.
struct Seconds(Time);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.0.as_secs(), self.0.subsec_nanos())
    }
}

/// How calls begin.
const VERBS: &str = "add, cancel, schedule, commit, retract, settle, observe or reset";

impl FromStr for Call {
    type Err = BadCall;

    fn from_str(line: &str) -> Result<Self, BadCall> {
        let mut words = line.split_whitespace();
        let call = match words.next().unwrap_or_default() {
            "add" => Self::Add(read_request(&mut words)?),
            "cancel" => Self::Cancel(RequestId(next(&mut words, "a request's number")?)),
            "schedule" => Self::Schedule {
                now: time(words.next().unwrap_or_default())?,
            },
            "commit" => Self::Commit {
                step: StepId(next(&mut words, "a step's number")?),
                outcomes: words.by_ref().map(read_outcome).collect::<Result<_, _>>()?,
            },
            "retract" => Self::Retract {
                step: StepId(next(&mut words, "a step's number")?),
            },
            "settle" => Self::Settle {
                transfer: TransferId(next(&mut words, "a transfer's number")?),
                tokens: read_arrival(&mut words)?,
            },
            "observe" => read_observation(&mut words)?,
            "reset" => Self::ResetPrefixCache,
            other => return bad(VERBS, other),
        };
        match words.next() {
            None => Ok(call),
            Some(further) => bad("the end of the line", further),
        }
    }
}

impl FromStr for TokenRef {
    type Err = BadCall;

    /// Reads a token as a plan shows it: a number, or `@` and the number of the step that samples it.
    fn from_str(word: &str) -> Result<Self, BadCall> {
        match word.strip_prefix('@') {
            Some(step) => {
                number(step, "a step's number").map(|step| Self::Sampled { step: StepId(step) })
            }
            None => number(word, "a token").map(Self::Known),
        }
    }
}

fn read_request(words: &mut SplitWhitespace) -> Result<NewRequest, BadCall> {
    let id = next(words, "a request's number")?;
    let mut request = NewRequest::new(id, Vec::new(), 0);
    let (mut has_prompt, mut has_max_tokens) = (false, false);
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "prompt" => {
                has_prompt = true;
                for token in value.split(',').filter(|token| !token.is_empty()) {
                    request.prompt.push(number(token, "tokens between commas")?);
                }
            }
            "max_tokens" => {
                has_max_tokens = true;
                request.max_tokens = number(value, "a number of tokens")?;
            }
            "priority" => request.priority = number(value, "a priority")?,
            "tenant" => request.tenant = TenantId(number(value, "a tenant's number")?),
            "weight" => request.weight = number(value, "a weight")?,
            "arrival" => request.arrival = time(value)?,
            "deadline" => request.deadline = Some(time(value)?),
            "queue_deadline" => request.queue_deadline = Some(time(value)?),
            "namespace" => request.namespace = namespace(value)?,
            "fork_of" => request.fork_of = Some(RequestId(number(value, "a request's number")?)),
            "source" => request.source = Some(source(value)?),
            "prompt_logits" => request.prompt_logits = true,
            "no_cache_reads" => request.read_cache = false,
            "no_cache_writes" => request.write_cache = false,
            "plan_ahead" => request.plan_ahead = true,
            _ => return bad("a property of a request", word),
        }
    }
    match (has_prompt, has_max_tokens) {
        (true, true) => Ok(request),
        (false, _) => bad("prompt=TOKENS", ""),
        (_, false) => bad("max_tokens=NUMBER", ""),
    }
}

fn read_outcome(word: &str) -> Result<Outcome, BadCall> {
    const EXPECTED: &str = "REQUEST=TOKENS, then drafts=NUMBER, finished, failed or deferred";
    let Some((request, items)) = word.split_once('=') else {
        return bad(EXPECTED, word);
    };
    let mut outcome = Outcome::of(RequestId(number(request, EXPECTED)?), Vec::new());
    for item in items.split(',').filter(|item| !item.is_empty()) {
        match (item, item.strip_prefix("drafts=")) {
            ("finished", _) => outcome.finished = true,
            ("failed", _) => outcome.failed = true,
            ("deferred", _) => outcome.deferred = true,
            (_, Some(drafts)) => outcome.next_drafts = number(drafts, EXPECTED)?,
            (token, None) => outcome.tokens.push(number(token, EXPECTED)?),
        }
    }
    Ok(outcome)
}

fn read_observation(words: &mut SplitWhitespace) -> Result<Call, BadCall> {
    let mut value = |key: &'static str| {
        let word = words.next().unwrap_or_default();
        match word.split_once('=') {
            Some((found, value)) if found == key => Ok(value),
            _ => bad("tokens=, took=, moved_blocks= and moving=", word),
        }
    };
    Ok(Call::Observe {
        tokens: number(value("tokens")?, "a number of tokens")?,
        took: time(value("took")?)?,
        moved_blocks: number(value("moved_blocks")?, "a number of blocks")?,
        moving: time(value("moving")?)?,
    })
}

fn next<T: FromStr>(words: &mut SplitWhitespace, expected: &'static str) -> Result<T, BadCall> {
    number(words.next().unwrap_or_default(), expected)
}

fn number<T: FromStr>(word: &str, expected: &'static str) -> Result<T, BadCall> {
    word.parse().or_else(|_| bad(expected, word))
}

fn time(word: &str) -> Result<Time, BadCall> {
    const EXPECTED: &str = "a time in seconds with nine decimals";
    let parts = word.split_once('.').filter(|(_, nanos)| nanos.len() == 9);
    let Some((seconds, nanos)) = parts else {
        return bad(EXPECTED, word);
    };
    Ok(Time::new(
        number(seconds, EXPECTED)?,
        number(nanos, EXPECTED)?,
    ))
}

fn read_arrival(words: &mut SplitWhitespace) -> Result<usize, BadCall> {
    const EXPECTED: &str = "tokens=NUMBER";
    let word = words.next().unwrap_or_default();
    match word.strip_prefix("tokens=") {
        Some(tokens) => number(tokens, EXPECTED),
        None => bad(EXPECTED, word),
    }
}

fn source(word: &str) -> Result<BlockSource, BadCall> {
    const EXPECTED: &str = "a source as NUMBER:TOKENS";
    let Some((source, tokens)) = word.split_once(':') else {
        return bad(EXPECTED, word);
    };
    Ok(BlockSource {
        source: number(source, EXPECTED)?,
        tokens: number(tokens, EXPECTED)?,
    })
}

fn namespace(word: &str) -> Result<Namespace, BadCall> {
    match u128::from_str_radix(word, 16) {
        Ok(root) if word.len() == 32 => Ok(Namespace::from_root(BlockHash(root))),
        _ => bad("a namespace of 32 hexadecimal digits", word),
    }
}

fn bad<T>(expected: &'static str, found: &str) -> Result<T, BadCall> {
    let mut shown: String = found.chars().take(40).collect();
    if shown.len() < found.len() {
        // A line may be megabytes long. Writing into a string does not fail.
        let _ = write!(shown, "...");
    }
    Err(BadCall {
        expected,
        found: shown,
    })
}

#[cfg(test)]
mod tests {
    use maitre_kv::HashKey;

    use super::*;

    #[test]
    fn a_line_that_is_not_a_call_says_what_was_expected() {
        let cases = [
            ("", VERBS),
            ("add", "a request's number"),
            ("add 1 max_tokens=3", "prompt=TOKENS"),
            ("add 1 prompt=3", "max_tokens=NUMBER"),
            ("add 1 prompt=3,x max_tokens=1", "tokens between commas"),
            ("add 1 prompt=3 max_tokens=-1", "a number of tokens"),
            (
                "add 1 prompt=3 max_tokens=1 colour=red",
                "a property of a request",
            ),
            (
                "add 1 prompt=3 max_tokens=1 namespace=12",
                "a namespace of 32 hexadecimal digits",
            ),
            (
                "add 1 prompt=3 max_tokens=1 deadline=1.5",
                "a time in seconds with nine decimals",
            ),
            ("cancel all", "a request's number"),
            ("cancel 1 2", "the end of the line"),
            ("schedule", "a time in seconds with nine decimals"),
            (
                "schedule 1.0000000000",
                "a time in seconds with nine decimals",
            ),
            ("commit", "a step's number"),
            (
                "commit 1 7",
                "REQUEST=TOKENS, then drafts=NUMBER, finished, failed or deferred",
            ),
            (
                "commit 1 7=8,lost",
                "REQUEST=TOKENS, then drafts=NUMBER, finished, failed or deferred",
            ),
            (
                "commit 1 7=8,drafts=many",
                "REQUEST=TOKENS, then drafts=NUMBER, finished, failed or deferred",
            ),
            ("retract", "a step's number"),
            ("retract 1 2", "the end of the line"),
            ("settle", "a transfer's number"),
            ("settle 1", "tokens=NUMBER"),
            ("settle 1 tokens=all", "tokens=NUMBER"),
            (
                "add 1 prompt=3 max_tokens=1 source=4",
                "a source as NUMBER:TOKENS",
            ),
            (
                "observe took=1.000000000",
                "tokens=, took=, moved_blocks= and moving=",
            ),
            ("reset now", "the end of the line"),
        ];
        for (line, expected) in cases {
            let error = line.parse::<Call>().unwrap_err();
            assert_eq!(error.expected, expected, "{line}");
        }
        let long = format!("add {}", "x".repeat(1000));
        assert_eq!(long.parse::<Call>().unwrap_err().found.len(), 43);
    }

    #[test]
    fn every_token_reads_as_it_was_written() {
        let step = StepId(12);
        for (token, text) in [
            (TokenRef::Known(12), "12"),
            (TokenRef::Sampled { step }, "@12"),
        ] {
            assert_eq!(token.to_string(), text);
            assert_eq!(text.parse(), Ok(token));
        }
        assert_eq!("".parse::<TokenRef>().unwrap_err().expected, "a token");
        let error = "@".parse::<TokenRef>().unwrap_err();
        assert_eq!(error.expected, "a step's number");
    }

    #[test]
    fn every_call_reads_as_it_was_written() {
        let full = NewRequest {
            priority: -3,
            tenant: TenantId(4),
            weight: 5,
            arrival: Time::new(6, 7),
            deadline: Some(Time::MAX),
            queue_deadline: Some(Time::ZERO),
            prompt_logits: true,
            namespace: Namespace::new(&HashKey::Secret([1; 32]), &[b"a"]),
            read_cache: false,
            write_cache: false,
            fork_of: Some(RequestId(8)),
            plan_ahead: true,
            source: Some(BlockSource {
                source: u64::MAX,
                tokens: 9,
            }),
            ..NewRequest::new(u64::MAX, vec![0, u32::MAX], usize::MAX)
        };
        let outcome = |request, tokens: &[u32], next_drafts, finished, failed| Outcome {
            request: RequestId(request),
            tokens: tokens.to_vec(),
            next_drafts,
            finished,
            failed,
            deferred: false,
        };
        let calls = [
            Call::Add(full),
            Call::Add(NewRequest::new(1, vec![], 0)),
            Call::Cancel(RequestId(3)),
            Call::Schedule {
                now: Time::new(1, 999_999_999),
            },
            Call::Commit {
                step: StepId(4),
                outcomes: vec![],
            },
            Call::Commit {
                step: StepId(5),
                outcomes: vec![
                    outcome(1, &[], 0, false, false),
                    outcome(2, &[3, 4], 0, true, false),
                    outcome(5, &[], 0, true, true),
                    outcome(6, &[7], 8, false, false),
                    outcome(9, &[], usize::MAX, true, false),
                    Outcome {
                        deferred: true,
                        ..outcome(10, &[], 1, false, false)
                    },
                ],
            },
            Call::Retract { step: StepId(6) },
            Call::Settle {
                transfer: TransferId(7),
                tokens: 0,
            },
            Call::Observe {
                tokens: 1,
                took: Time::new(2, 3),
                moved_blocks: 4,
                moving: Time::ZERO,
            },
            Call::ResetPrefixCache,
        ];
        for call in calls {
            let line = call.to_string();
            assert_eq!(line.parse(), Ok(call), "{line}");
        }
    }
}
