//! Models of text inside classes that have more.

use maitre_model::{Reads, Wrapper};
use maitre_tensor::DType;
use serde_json::{Value, json};

use crate::families::{ministral3, mistral3, parse};

#[test]
fn the_text_of_a_model_with_images_is_a_familys() {
    let alone = parse(&ministral3(json!({"tie_word_embeddings": true}))).unwrap();
    let growth = alone.ropes[0].query_growth.unwrap();
    assert_eq!(
        (growth.beta, growth.original_max_position_embeddings),
        (0.1, 256)
    );
    assert_eq!(alone.wrapper, None);
    let inside = |text: Value, more: Value| parse(&mistral3(text, more)).unwrap();
    let tied = json!({"tie_word_embeddings": true});
    let untied = json!({"tie_word_embeddings": false});
    let wrapped = inside(tied.clone(), json!({"dtype": "bfloat16"}));
    assert_eq!(wrapped.wrapper, Wrapper::all().next());
    assert_eq!(wrapped.architecture, alone.architecture);
    assert_eq!(
        (&wrapped.ropes, &wrapped.layers),
        (&alone.ropes, &alone.layers)
    );
    assert_eq!(wrapped.dtype, Some(DType::Bf16));
    // What the model of text says counts, then what stands outside.
    assert!(wrapped.tie_word_embeddings);
    assert!(inside(json!({}), tied.clone()).tie_word_embeddings);
    assert!(!inside(untied, tied).tie_word_embeddings);
    assert!(!inside(json!({}), json!({})).tie_word_embeddings);
    // Without a name it is Mistral.
    let plain = json!({"model_type": null, "rope_parameters": null, "sliding_window": null});
    let mistral = inside(plain, json!({"architectures": null}));
    assert_eq!(mistral.architecture.class_name(), "MistralForCausalLM");
    assert_eq!(mistral.layers[0].attention.reads, Reads::Full);
}
