//! Mistral Small 3 and Ministral 3 with images: the text's part is that of Mistral or of Ministral 3.

use crate::architectures::{ministral3, mistral};
use crate::wrapper::Kind;

pub(crate) const WRAPPER: Kind = Kind {
    class_name: "Mistral3ForConditionalGeneration",
    model_type: "mistral3",
    text: &[&mistral::FAMILY, &ministral3::FAMILY],
    files: Kind::FILES,
};
