//! The formats of JSON Schema as patterns. They are stricter than the library's own: no 29 February in a year that has none, no
//! label of a host name that is too long. A pattern may leave out a rare form; what it lets through is valid.

use serde_json::{Map, Value, json};

const OCTET: &str = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
/// A character of RFC 5322, section 3.2.3.
const ATOM: &str = "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]";
const URI_CHAR: &str = "(?:[a-zA-Z0-9._~!$&'()*+,;=-]|%[0-9a-fA-F]{2})";
const PATH_CHAR: &str = "(?:[a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9a-fA-F]{2})";
const QUERY_CHAR: &str = "(?:[a-zA-Z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-fA-F]{2})";

/// Writes the format of a schema as a pattern. A format that is not known stays, and is refused by the library.
///
/// It is one pattern, with lengths in it: the library gives up on the intersection of several that count.
pub(super) fn spell_out(schema: &mut Map<String, Value>) {
    let Some(pattern) = schema
        .get("format")
        .and_then(Value::as_str)
        .and_then(pattern)
    else {
        return;
    };
    schema.shift_remove("format");
    if schema.contains_key("pattern") {
        super::rewrite::also(schema, [json!({"pattern": pattern})]);
    } else {
        schema.insert("pattern".to_owned(), pattern.into());
    }
}

/// The pattern of a format.
fn pattern(format: &str) -> Option<String> {
    let pattern = match format {
        "date" => date(),
        "time" => time(),
        "date-time" => format!("(?:{})[tT](?:{})", date(), time()),
        "duration" => duration(),
        "email" => email(),
        "hostname" => host(),
        "ipv4" => ipv4(),
        "ipv6" => ipv6(),
        "uuid" => "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}".to_owned(),
        "uri" => uri(),
        _ => return None,
    };
    Some(format!("^(?:{pattern})$"))
}

/// RFC 3339, from the year 1 on: many calendars of programs have no year 0.
fn date() -> String {
    let year = "(?:[0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)";
    let fours = "(?:0[48]|[2468][048]|[13579][26])";
    format!(
        "{year}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])\
         |(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)\
         |02-(?:0[1-9]|1[0-9]|2[0-8]))\
         |(?:[0-9]{{2}}{fours}|{fours}00)-02-29"
    )
}

/// RFC 3339. A leap second is the last one of a day in UTC, and is written so.
fn time() -> String {
    let fraction = "(?:\\.[0-9]{1,9})?";
    format!(
        "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]{fraction}(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])\
         |23:59:60{fraction}[zZ]"
    )
}

/// RFC 3339, appendix A.
fn duration() -> String {
    let date = "(?:[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D)";
    let time = "T(?:[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S)";
    format!("P(?:{date}(?:{time})?|{time}|[0-9]+W)")
}

/// RFC 5321, section 4.5.3.1: 64 characters in front of the `@`, here in at most four parts.
fn email() -> String {
    let parts = |longest: usize, more: usize| {
        format!("{ATOM}{{1,{longest}}}(?:\\.{ATOM}{{1,{longest}}}){{{more}}}")
    };
    let name = [parts(64, 0), parts(31, 1), parts(20, 2), parts(15, 3)].join("|");
    format!("(?:{name})@(?:{}|\\[{}\\])", host(), ipv4())
}

/// RFC 1123, section 2.1: 253 characters, here in three labels of any length, or up to seven of at most 31 characters.
fn host() -> String {
    let (any, short) = (label(63), label(31));
    format!("(?:{any}(?:\\.{any}){{0,2}}|{short}(?:\\.{short}){{3,6}})")
}

/// A label of a host name: no hyphen at its ends, nor in the third and fourth place at once, where it marks encoded labels
/// (RFC 5891, section 4.2.3.1).
fn label(longest: usize) -> String {
    let (end, any) = ("[a-zA-Z0-9]", "[a-zA-Z0-9-]");
    let most = longest - 4;
    format!(
        "(?:{end}(?:{any}?{end})?|{end}{any}{end}{any}{{0,{most}}}{end}|{end}{any}-{end}(?:{any}{{0,{}}}{end})?)",
        most - 1
    )
}

fn ipv4() -> String {
    format!("{OCTET}(?:\\.{OCTET}){{3}}")
}

/// RFC 4291, section 2.2: eight groups, or fewer around `::`.
fn ipv6() -> String {
    let group = "[0-9a-fA-F]{1,4}";
    let groups = |most: usize| match most {
        0 => String::new(),
        1 => format!("(?:{group})?"),
        more => format!("(?:{group}(?::{group}){{0,{}}})?", more - 1),
    };
    let mut forms = vec![format!("(?:{group}:){{7}}{group}")];
    forms.push(format!("::{}", groups(7)));
    for before in 1..8 {
        let head = format!("{group}(?::{group}){{{}}}", before - 1);
        forms.push(format!("{head}::{}", groups(7 - before)));
    }
    forms.join("|")
}

/// RFC 3986.
fn uri() -> String {
    let authority = format!(
        "(?:(?:{URI_CHAR}|:)*@)?(?:\\[(?:{})\\]|{URI_CHAR}*)(?::[0-9]{{0,5}})?",
        ipv6()
    );
    let path = format!("{PATH_CHAR}+(?:/{PATH_CHAR}*)*");
    format!(
        "[a-zA-Z][a-zA-Z0-9+.-]*:(?://{authority}(?:/{PATH_CHAR}*)*|/(?:{path})?|{path})?\
         (?:\\?{QUERY_CHAR}*)?(?:[#]{QUERY_CHAR}*)?"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_is_within_the_limits() {
        for format in [
            "date",
            "time",
            "date-time",
            "duration",
            "email",
            "hostname",
            "ipv4",
            "ipv6",
            "uuid",
            "uri",
        ] {
            let pattern = pattern(format).unwrap();
            super::super::regex_size::check(&pattern).unwrap();
            regex_syntax::parse(&pattern).unwrap();
        }
        assert_eq!(pattern("json-pointer"), None);
    }

    #[test]
    fn a_pattern_of_the_schema_stays() {
        let mut schema = json!({"format": "uuid", "pattern": "^0"});
        spell_out(schema.as_object_mut().unwrap());
        assert_eq!(schema["pattern"], "^0");
        assert_eq!(schema["allOf"].as_array().unwrap().len(), 1);
        assert_eq!(schema.get("format"), None);
    }
}
