//! What a file is that is not what its name says: a git-LFS pointer, a web page, another format.
//!
//! Each description completes the sentence "config.json …" and ends with what to do.

/// What stands first in a git-LFS pointer.
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/";

/// What is wrong with the content of a text file, if anything is.
pub(crate) fn mistaken_text(content: &[u8]) -> Option<String> {
    if content.trim_ascii().is_empty() {
        return Some("is empty; download it again".to_owned());
    }
    if content.starts_with(b"\xff\xfe") || content.starts_with(b"\xfe\xff") {
        return Some("is UTF-16 text; save it as UTF-8".to_owned());
    }
    pointer(content).or_else(|| page(content))
}

/// What a file that is not safetensors is, from its first bytes, if that can be told.
pub(crate) fn mistaken_weights(head: &[u8]) -> Option<String> {
    let other = |what: &str| {
        Some(format!(
            "is {what} under the name of a safetensors file; load the model with transformers and \
             save it again, which writes safetensors"
        ))
    };
    if head.starts_with(b"PK\x03\x04") {
        return other("a PyTorch checkpoint (a zip archive)");
    }
    if head.starts_with(b"\x80\x02") || head.starts_with(b"\x80\x04") {
        return other("an old PyTorch checkpoint (a Python pickle)");
    }
    if head.starts_with(b"GGUF") {
        return Some(
            "is a GGUF file under the name of a safetensors file; give it the name of one, NAME.gguf, and that to \
             --model, or download the model's safetensors files"
                .to_owned(),
        );
    }
    pointer(head).or_else(|| page(head))
}

fn pointer(content: &[u8]) -> Option<String> {
    if !content.starts_with(LFS) {
        return None;
    }
    let text = String::from_utf8_lossy(content);
    let size = text.lines().find_map(|line| line.strip_prefix("size "));
    let size = size.map_or_else(String::new, |size| format!(" to {} bytes", size.trim()));
    Some(format!(
        "is a git-LFS pointer{size}, not the file itself; run `git lfs pull` where it was cloned, or \
         download it again"
    ))
}

fn page(content: &[u8]) -> Option<String> {
    let text = content.trim_ascii_start();
    text.starts_with(b"<")
        .then(|| "is a web page (HTML or XML), not the file itself; download it again".to_owned())
}
