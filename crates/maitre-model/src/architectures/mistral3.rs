//! Mistral Small 3 and Ministral 3 with images: the text's part is that of Mistral or of Ministral 3.
//!
//! On the Hub the model of text is in `language_model.`; transformers 5 saves it in `model.language_model.`, with the output
//! matrix outside.

use crate::architectures::{ministral3, mistral};
use crate::checkpoint::FileNames;
use crate::wrapper::Kind;

pub(crate) const WRAPPER: Kind = Kind {
    class_name: "Mistral3ForConditionalGeneration",
    model_type: "mistral3",
    text: &[&mistral::FAMILY, &ministral3::FAMILY],
    files: FileNames {
        prefixes: &[
            ("language_model.model.", "model."),
            ("model.language_model.", "model."),
            ("language_model.lm_head.", "lm_head."),
            ("lm_head.", "lm_head."),
        ],
        beside: &[
            "vision_tower.",
            "model.vision_tower.",
            "multi_modal_projector.",
            "model.multi_modal_projector.",
        ],
        ..FileNames::AS_IS
    },
};
