//! What the targets share: how an input is cut, and the tokenizer of the bundled model.

use std::sync::LazyLock;

use maitre_text::Tokenizer;

/// The bytes of a file of the bundled model.
pub fn bundled(name: &str) -> Option<&'static [u8]> {
    let mut files = maitre_bundled::TARGET.files.iter();
    files
        .find(|(file, _)| *file == name)
        .map(|(_, bytes)| *bytes)
}

/// The tokenizer of the bundled model, with its chat template.
pub static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let json = bundled("tokenizer.json").expect("the model has a tokenizer");
    let template = bundled("chat_template.jinja");
    Tokenizer::from_bytes(json, bundled("tokenizer_config.json"), template)
        .expect("the bundled tokenizer is whole")
});

/// An input, from its beginning: first what decides, then what is read.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte; 0 behind the end.
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first
    }

    /// One of `choices`, of which there is at least one.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.byte()) % choices.len()]
    }

    /// All that is left, up to a byte 255, which no text has.
    pub fn text(&mut self) -> String {
        let end = self.0.iter().position(|&it| it == 255);
        let (text, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest.get(1..).unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    }
}

/// Numbers that look random (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}
