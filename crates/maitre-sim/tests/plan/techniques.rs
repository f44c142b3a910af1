//! What techniques move: each row of the table is the same search with that one change.

use maitre_sim::plan::{Gain, Plan, Question, Scarce, Technique, Traffic};
use maitre_sim::{Acceptance, Drafter, ModelShape, Speculation, Split};

use crate::{lengths, question, shape};

fn named<'a>(plan: &'a Plan, name: &str) -> Vec<&'a Technique> {
    let techniques = plan.techniques.iter();
    techniques.filter(|it| it.name == name).collect()
}

/// Load per box, and how many times as much that is for each device.
fn gain(technique: &Technique) -> (f64, f64) {
    match &technique.gain {
        Gain::Serves {
            load_per_box,
            times,
        } => (*load_per_box, *times),
        Gain::Impossible(why) => panic!("{why}"),
    }
}

/// Answers of some length, whose steps take what reading the weights does.
fn reading() -> Question {
    let traffic = Traffic::Rate {
        per_second: 10.0,
        lengths: lengths(16, 24),
    };
    let mut question = question("ttft=400ms,tpot=8ms", traffic);
    question.hardware.bf16_ops_per_second = 1e12;
    question.judged = 20;
    question.max_seqs = 8;
    question
}

fn speculation(share: f64, drafter: Drafter) -> Speculation {
    let acceptance = Acceptance::of_shares(vec![share; 4]).unwrap();
    Speculation {
        drafter,
        ..Speculation::new(4, acceptance)
    }
}

#[test]
fn techniques_move_what_is_scarce() {
    // Prompts of 200 tokens whose products bound the box.
    let mut question = question(
        "ttft=400ms,tpot=80ms",
        Traffic::Rate {
            per_second: 10.0,
            lengths: lengths(192, 4),
        },
    );
    question.techniques = true;
    question.hardware.read_bytes_per_second = 1e12;
    let plan = question.plan().unwrap();
    let times = |change: &str| {
        let technique = plan.techniques.iter().find(|it| it.change.contains(change));
        match &technique.unwrap().gain {
            Gain::Serves { times, .. } => *times,
            Gain::Impossible(why) => panic!("{why}"),
        }
    };
    assert_eq!(plan.limit.scarce, Scarce::Arithmetic, "{plan}");
    assert!(times("begin alike for 96") > 1.3, "{plan}");
    assert!(times("weights in fp8") > 1.2, "{plan}");
    assert!(
        (times("weights in int4") - 1.0).abs() < 0.1,
        "products stay in bf16: {plan}"
    );
    let int8 = plan
        .techniques
        .iter()
        .find(|it| it.change == "weights in int8");
    assert!(
        matches!(&int8.unwrap().gain, Gain::Impossible(why) if why.contains("int8 on slow")),
        "{plan}"
    );
}

#[test]
fn speculation_is_tried_with_an_acceptance_alone() {
    let mut question = reading();
    question.techniques = true;
    let plan = question.plan().unwrap();
    assert!(named(&plan, "speculate").is_empty(), "{plan}");

    let with = |speculation: Speculation| {
        let mut question = question.clone();
        question.may_speculate = Some(speculation);
        let plan = question.plan().unwrap();
        let rows = named(&plan, "speculate");
        assert_eq!(rows[0].change[..22], *"at most 2 drafts a ste", "{plan}");
        let times: Vec<f64> = rows.iter().map(|it| gain(it).1).collect();
        (times, plan.to_string())
    };
    let (often, text) = with(speculation(0.9, Drafter::Lookup));
    assert!(often.len() == 2 && often[0] > 1.3, "{text}");
    assert!(often[1] > often[0], "{text}");
    let (never, text) = with(speculation(0.0, Drafter::Lookup));
    assert!(never.iter().all(|times| *times < 1.01), "{text}");
    let slow = Drafter::Model(Box::new(ModelShape {
        name: "large".to_owned(),
        ..shape()
    }));
    let (slow, text) = with(speculation(0.9, slow));
    assert!(slow[1] < 0.8 * often[1], "{text}");
    assert!(text.contains("at most 4 drafts a step of large"), "{text}");
}

#[test]
fn a_draft_model_of_another_vocabulary_is_refused() {
    let mut question = reading();
    let other = Drafter::Model(Box::new(ModelShape {
        vocabulary: 151_936,
        ..shape()
    }));
    question.may_speculate = Some(speculation(0.9, other));
    let said = question.plan().unwrap_err().to_string();
    assert!(
        said.contains("the vocabulary of the draft model is 151936 tokens"),
        "{said}"
    );
}

/// The split that is told is the best of all, within what the search tells apart.
#[test]
fn prefill_apart_is_the_best_of_its_splits() {
    let traffic = Traffic::Rate {
        per_second: 10.0,
        lengths: lengths(64, 8),
    };
    let mut question = question("ttft=400ms,tpot=12ms", traffic);
    question.judged = 20;
    question.techniques = true;
    let plan = question.plan().unwrap();
    let rows = named(&plan, "prefill apart");
    let (load, times) = gain(rows[0]);
    assert!((times - load / plan.load_per_box).abs() < 1e-9, "{plan}");
    question.techniques = false;
    let mut best = (0.0, String::new());
    for (prefill, decode) in [(1, 1), (1, 2), (2, 1), (1, 3), (3, 1)] {
        question.split = Some(Split {
            prefill,
            decode,
            link_bytes_per_second: question.link_bytes_per_second,
        });
        let boxes = prefill + decode;
        let per_box = question.plan().unwrap().load_per_box / boxes as f64;
        if per_box > best.0 {
            best = (per_box, format!("{prefill} of {boxes} boxes"));
        }
    }
    assert!(load > 0.95 * best.0, "{} of {}: {plan}", load, best.0);
    assert!(load < 1.05 * best.0, "{} of {}: {plan}", load, best.0);
    question.link_bytes_per_second = 0.0;
    let said = question.plan().unwrap_err().to_string();
    assert!(said.contains("the rate of the link is 0"), "{said}");
}
