//! Upper and lower case, and what kind of characters a string has.

use crate::python::text::{
    capitalize, is_cased, is_printable, is_space, is_title_case, is_word, title_case,
};

/// `str.upper` and its siblings.
pub(super) fn convert(name: &str, string: &str) -> String {
    match name {
        "upper" => string.to_uppercase(),
        "lower" => string.to_lowercase(),
        "capitalize" => capitalize(string),
        "title" => title(string),
        "swapcase" => swap_case(string),
        _ => case_fold(string),
    }
}

fn title(string: &str) -> String {
    let mut out = String::with_capacity(string.len());
    let mut inside_word = false;
    for (c, lower) in with_lower(string) {
        if inside_word {
            out.push_str(&lower);
        } else {
            title_case(c, &mut out);
        }
        inside_word = is_cased(c);
    }
    out
}

fn swap_case(string: &str) -> String {
    let mut out = String::with_capacity(string.len());
    for (c, lower) in with_lower(string) {
        if c.is_uppercase() {
            out.push_str(&lower);
        } else if c.is_lowercase() {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
    }
    out
}

/// Every character with its lower case, which depends on the neighbours for the final sigma.
fn with_lower(string: &str) -> impl Iterator<Item = (char, String)> {
    let mut before_is_cased = false;
    string.char_indices().map(move |(at, c)| {
        let after = string[at + c.len_utf8()..].chars().next();
        let is_final = before_is_cased && !after.is_some_and(is_cased);
        before_is_cased = is_cased(c);
        let lower = match c {
            'Σ' if is_final => "ς".to_owned(),
            c => c.to_lowercase().collect(),
        };
        (c, lower)
    })
}

fn case_fold(string: &str) -> String {
    let mut out = String::with_capacity(string.len());
    for c in string.chars() {
        match c {
            'ß' | 'ẞ' => out.push_str("ss"),
            'ς' => out.push('σ'),
            'ﬀ'..='ﬆ' => out.extend(c.to_uppercase().flat_map(char::to_lowercase)),
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}

/// `str.isalpha` and its siblings.
pub(super) fn is(name: &str, string: &str) -> bool {
    let all = |predicate: fn(char) -> bool| !string.is_empty() && string.chars().all(predicate);
    match name {
        "isalnum" => all(|c| is_word(c) && c != '_'),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => string.is_ascii(),
        "isdecimal" => all(is_decimal),
        "isdigit" => all(|c| is_decimal(c) || is_other_digit(c)),
        "isnumeric" => all(|c| c.is_numeric() || is_cjk_number(c)),
        "isspace" => all(is_space),
        "isprintable" => string.chars().all(is_printable),
        "isidentifier" => {
            all(is_word) && !string.starts_with(|c: char| c != '_' && !c.is_alphabetic())
        }
        "islower" => {
            string.chars().any(char::is_lowercase)
                && !string.chars().any(|c| c.is_uppercase() || is_title_case(c))
        }
        "isupper" => {
            string.chars().any(char::is_uppercase)
                && !string.chars().any(|c| c.is_lowercase() || is_title_case(c))
        }
        _ => is_title(string),
    }
}

fn is_title(string: &str) -> bool {
    let mut found = false;
    let mut inside_word = false;
    for c in string.chars() {
        if c.is_uppercase() || is_title_case(c) {
            if inside_word {
                return false;
            }
            found = true;
        } else if c.is_lowercase() && !inside_word {
            return false;
        }
        inside_word = is_cased(c);
    }
    found
}

/// The general category Nd: runs of ten, by their zeros.
fn is_decimal(c: char) -> bool {
    const ZEROS: [u32; 38] = [
        0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66,
        0xde6, 0xe50, 0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90,
        0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0,
        0xff10, 0x104a0,
    ];
    let code = u32::from(c);
    ZEROS.iter().any(|&zero| (zero..zero + 10).contains(&code))
        || (0x1d7ce..=0x1d7ff).contains(&code)
}

/// Superscripts and digits in circles.
fn is_other_digit(c: char) -> bool {
    matches!(
        u32::from(c),
        0xb2 | 0xb3
            | 0xb9
            | 0x2070
            | 0x2074..=0x2079
            | 0x2080..=0x2089
            | 0x2460..=0x2468
            | 0x2474..=0x247c
            | 0x2488..=0x2490
            | 0x24ea
            | 0x24f5..=0x24fd
            | 0x24ff
            | 0x2776..=0x277e
            | 0x2780..=0x2788
            | 0x278a..=0x2792
            | 0x1f100..=0x1f10a
    )
}

fn is_cjk_number(c: char) -> bool {
    "一二三四五六七八九十百千万億兆零壹贰叁肆伍陆柒捌玖拾佰仟萬亿两兩廿卅".contains(c)
}
