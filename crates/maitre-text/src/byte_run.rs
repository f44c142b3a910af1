//! Bytes that become text piece by piece, without ever showing part of a character.
//!
//! Two disciplines, because tokenizers have two. A byte-level tokenizer's output is one stream of
//! bytes, decoded the way `String::from_utf8_lossy` does ([`Utf8Stream`]). A tokenizer with byte
//! fallback has runs of byte tokens between ordinary ones; its reference decoder shows a run that is
//! valid UTF-8 as text, and any other as one U+FFFD per byte ([`ByteRun`]).

/// Streaming `String::from_utf8_lossy`: holds back at most the three bytes of an unfinished character.
#[derive(Debug, Clone, Default)]
pub(crate) struct Utf8Stream {
    held: Vec<u8>,
}

impl Utf8Stream {
    /// Appends to `out` all that is certain after `bytes`.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut String) {
        if self.held.is_empty() {
            let rest = decode_certain(bytes, out);
            self.held.extend(rest);
        } else {
            self.held.extend(bytes);
            let rest = decode_certain(&self.held, out).len();
            self.held.drain(..self.held.len() - rest);
        }
    }

    /// The stream is over: an unfinished character becomes one U+FFFD.
    pub(crate) fn finish(&mut self, out: &mut String) {
        if !self.held.is_empty() {
            self.held.clear();
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Decodes until the bytes end or only an unfinished character is left, which is returned.
fn decode_certain<'a>(mut bytes: &'a [u8], out: &mut String) -> &'a [u8] {
    loop {
        match std::str::from_utf8(bytes) {
            Ok(text) => {
                out.push_str(text);
                return &[];
            }
            Err(error) => {
                let (valid, rest) = bytes.split_at(error.valid_up_to());
                out.push_str(std::str::from_utf8(valid).unwrap_or_default());
                let Some(invalid) = error.error_len() else {
                    return rest;
                };
                out.push(char::REPLACEMENT_CHARACTER);
                bytes = &rest[invalid..];
            }
        }
    }
}

/// A run of byte tokens. The reference decoder judges a run as a whole, so a valid run cannot be
/// shown before its end is seen: a bad byte later would turn all of it into U+FFFD. To bound the
/// delay, a run that is valid for [`ByteRun::MAX_HELD_BYTES`] is believed from then on, and only its
/// bad bytes are replaced.
#[derive(Debug, Clone, Default)]
pub(crate) enum ByteRun {
    /// No byte token since the last ordinary one.
    #[default]
    Outside,
    /// Could still be valid as a whole.
    Held(Vec<u8>),
    /// Cannot be valid any more: every byte is a U+FFFD.
    Broken,
    /// Was valid for so long that it is shown as it comes.
    Believed(Vec<u8>),
}

impl ByteRun {
    /// So many bytes of one run are held back at most: ten CJK characters, eight emoji.
    pub(crate) const MAX_HELD_BYTES: usize = 32;

    /// Appends to `out` what one more byte token makes certain.
    pub(crate) fn push(&mut self, byte: u8, out: &mut String) {
        *self = match std::mem::take(self) {
            Self::Outside => Self::judge(vec![byte], out),
            Self::Held(mut held) => {
                held.push(byte);
                Self::judge(held, out)
            }
            Self::Broken => {
                out.push(char::REPLACEMENT_CHARACTER);
                Self::Broken
            }
            Self::Believed(mut held) => {
                held.push(byte);
                Self::Believed(show_characters(&held, out).to_vec())
            }
        };
    }

    /// Bytes of the complete characters that are held back.
    pub(crate) fn complete_bytes(&self) -> usize {
        match self {
            Self::Held(held) => match std::str::from_utf8(held) {
                Ok(text) => text.len(),
                Err(error) => error.valid_up_to(),
            },
            Self::Outside | Self::Broken | Self::Believed(_) => 0,
        }
    }

    /// Shows the complete characters that are held back, though a bad byte may still follow. What is left
    /// of an unfinished character goes on as a run of its own.
    pub(crate) fn show_complete(&mut self, out: &mut String) {
        let complete = self.complete_bytes();
        if let Self::Held(held) = self {
            let rest = held.split_off(complete);
            out.push_str(std::str::from_utf8(held).unwrap_or_default());
            *self = if rest.is_empty() {
                Self::Outside
            } else {
                Self::Held(rest)
            };
        }
    }

    /// The run is over.
    pub(crate) fn finish(&mut self, out: &mut String) {
        match std::mem::take(self) {
            Self::Outside | Self::Broken => {}
            Self::Held(held) => match std::str::from_utf8(&held) {
                Ok(text) => out.push_str(text),
                Err(_) => replace_each(&held, out),
            },
            Self::Believed(held) => replace_each(&held, out),
        }
    }

    fn judge(held: Vec<u8>, out: &mut String) -> Self {
        let broken = std::str::from_utf8(&held).is_err_and(|error| error.error_len().is_some());
        if broken {
            replace_each(&held, out);
            Self::Broken
        } else if held.len() > Self::MAX_HELD_BYTES {
            Self::Believed(show_characters(&held, out).to_vec())
        } else {
            Self::Held(held)
        }
    }
}

fn replace_each(bytes: &[u8], out: &mut String) {
    out.extend(bytes.iter().map(|_| char::REPLACEMENT_CHARACTER));
}

/// Shows complete characters and a U+FFFD per bad byte; returns the unfinished character.
fn show_characters<'a>(mut bytes: &'a [u8], out: &mut String) -> &'a [u8] {
    loop {
        let error = match std::str::from_utf8(bytes) {
            Ok(text) => {
                out.push_str(text);
                return &[];
            }
            Err(error) => error,
        };
        let (valid, rest) = bytes.split_at(error.valid_up_to());
        out.push_str(std::str::from_utf8(valid).unwrap_or_default());
        let Some(invalid) = error.error_len() else {
            return rest;
        };
        replace_each(&rest[..invalid], out);
        bytes = &rest[invalid..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: &[u8]) -> Vec<String> {
        let mut run = ByteRun::default();
        let mut outs: Vec<String> = bytes
            .iter()
            .map(|&byte| {
                let mut out = String::new();
                run.push(byte, &mut out);
                out
            })
            .collect();
        let mut out = String::new();
        run.finish(&mut out);
        outs.push(out);
        outs
    }

    #[test]
    fn a_valid_run_is_shown_at_its_end() {
        assert_eq!(run("é!".as_bytes()), ["", "", "", "é!"]);
    }

    #[test]
    fn a_run_that_breaks_is_replaced_byte_by_byte_at_once_and_from_then_on() {
        assert_eq!(run(&[b'a', 0xff, b'b']), ["", "��", "�", ""]);
    }

    #[test]
    fn an_unfinished_run_is_replaced_at_its_end() {
        assert_eq!(run(&[b'a', 0xc3]), ["", "", "��"]);
    }

    #[test]
    fn a_long_valid_run_flows_and_never_shows_part_of_a_character() {
        let text = "日本語".repeat(10);
        let outs = run(text.as_bytes());
        assert_eq!(outs.concat(), text);
        let mut held = 0_usize;
        for out in &outs[..text.len()] {
            held = held + 1 - out.len();
            assert!(held <= ByteRun::MAX_HELD_BYTES, "{held} bytes held");
        }
    }

    #[test]
    fn a_flood_of_bad_bytes_is_not_held_back() {
        let outs = run(&[0xff; 100]);
        assert!(outs[..100].iter().all(|out| out == "�"));
    }

    #[test]
    fn the_stream_equals_the_standard_library_however_it_is_cut() {
        let bytes = b"a\xc3\xa9\xf0\x9f\x98\x80\xf0\x9f\xe2\x82b\xff\xc3";
        for cut in 0..bytes.len() {
            let (mut stream, mut out) = (Utf8Stream::default(), String::new());
            stream.push(&bytes[..cut], &mut out);
            stream.push(&bytes[cut..], &mut out);
            stream.finish(&mut out);
            assert_eq!(out, String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn complete_characters_can_be_shown_early_and_the_rest_goes_on() {
        let mut run = ByteRun::default();
        let mut out = String::new();
        for &byte in "é世".as_bytes().iter().chain(&[0xe7]) {
            run.push(byte, &mut out);
        }
        assert_eq!((out.as_str(), run.complete_bytes()), ("", 5));
        run.show_complete(&mut out);
        assert_eq!((out.as_str(), run.complete_bytes()), ("é世", 0));
        run.show_complete(&mut out);
        for &byte in &"界".as_bytes()[1..] {
            run.push(byte, &mut out);
        }
        run.finish(&mut out);
        assert_eq!(out, "é世界");
    }
}
