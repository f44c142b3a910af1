//! The environment as every Hub client reads it: where the Hub and the cache are, and the user's token.
//!
//! The rules are those of `huggingface_hub` (its `constants.py` and `utils/_auth.py`): paths are expanded (`~`,
//! `~user`, `$VAR`, `${VAR}`), line ends within a token and white space around it are no part of it, and an empty
//! value counts as none.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::HubOptions;
use super::error::HubError;

/// An access token, and where it was found. Printing it shows the latter only.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    value: String,
    origin: String,
}

impl Token {
    /// The token `value`, which `origin` gives, such as `HF_TOKEN`. `None` if nothing but white space is left of it.
    pub fn new(value: &str, origin: impl Into<String>) -> Option<Self> {
        let value = value.replace(['\r', '\n'], "");
        let value = value.trim();
        (!value.is_empty()).then(|| Self {
            value: value.to_owned(),
            origin: origin.into(),
        })
    }

    /// The token which the process environment describes: `HF_TOKEN`, else the file `HF_TOKEN_PATH` or
    /// `$HF_HOME/token`; none with `HF_HUB_DISABLE_IMPLICIT_TOKEN`.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        Self::from_vars(process_variable)
    }

    /// The token which these variables describe.
    pub fn from_vars(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let environment = Environment(variable);
        if environment.is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return None;
        }
        ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]
            .into_iter()
            .find_map(|name| Self::new(&environment.0(name)?, name))
            .or_else(|| Self::from_file(environment.token_file()?))
    }

    fn from_file(file: PathBuf) -> Option<Self> {
        match fs::read_to_string(&file) {
            Ok(text) => Self::new(&text, format!("the file {}", file.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(
                    "no token is sent: {} cannot be read: {error}",
                    file.display()
                );
                None
            }
        }
    }

    /// Where it was found.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What stands in the request's header.
    pub(super) fn value(&self) -> Result<&str, HubError> {
        if self.value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(&self.value);
        }
        Err(HubError::BadToken {
            origin: self.origin.clone(),
        })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl HubOptions {
    /// The options which the process environment describes.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_vars(process_variable)
    }

    /// The options which these variables describe. Empty values count as unset.
    pub fn from_vars(variable: impl Fn(&str) -> Option<String>) -> Self {
        let environment = Environment(variable);
        let offline = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
            .into_iter()
            .find_map(|name| environment.set(name).map(|_| environment.is_true(name)));
        Self {
            endpoint: environment.set("HF_ENDPOINT"),
            cache_dir: environment.cache_dir(),
            offline: offline.unwrap_or(false),
            retry_delay: None,
        }
    }
}

/// A variable of this process; `HOME`, where it is unset, from the system's list of users.
fn process_variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok();
    if name != "HOME" {
        return value;
    }
    value.filter(|home| !home.is_empty()).or_else(|| {
        let home = std::env::home_dir()?;
        home.into_os_string().into_string().ok()
    })
}

/// Variables by name.
struct Environment<F>(F);

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    fn set(&self, name: &str) -> Option<String> {
        self.0(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        self.set(name).is_some_and(|value| {
            let value = value.to_ascii_lowercase();
            ["1", "true", "yes", "on"].contains(&value.as_str())
        })
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.set(name).map(|path| self.expand(&path).into())
    }

    fn cache_dir(&self) -> Option<PathBuf> {
        self.path("HF_HUB_CACHE")
            .or_else(|| self.path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| Some(self.hf_home()?.join("hub")))
    }

    fn token_file(&self) -> Option<PathBuf> {
        self.path("HF_TOKEN_PATH")
            .or_else(|| Some(self.hf_home()?.join("token")))
    }

    fn hf_home(&self) -> Option<PathBuf> {
        self.path("HF_HOME").or_else(|| {
            let caches = self.path("XDG_CACHE_HOME").or_else(|| {
                let home = PathBuf::from(self.set("HOME")?);
                Some(home.join(".cache"))
            });
            Some(caches?.join("huggingface"))
        })
    }

    /// As a shell does, and Python's `expandvars(expanduser(path))`: what has no value stays as it is.
    fn expand(&self, path: &str) -> String {
        let (first, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
        let home = match first.strip_prefix('~') {
            None => None,
            Some("") => self.set("HOME"),
            Some(user) => home_of(user),
        };
        let path = match home {
            Some(home) => format!("{}{rest}", home.trim_end_matches('/')),
            None => path.to_owned(),
        };
        let mut parts = path.split('$');
        let mut expanded = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = variable_name(part);
            match name.and_then(|name| self.0(name)) {
                Some(value) => expanded += &value,
                None => {
                    expanded.push('$');
                    expanded += &part[..part.len() - rest.len()];
                }
            }
            expanded += rest;
        }
        expanded
    }
}

/// The name at the beginning of `text`, as `NAME` or `{NAME}`, and what follows it.
fn variable_name(text: &str) -> (Option<&str>, &str) {
    if let Some((name, rest)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) {
        return (Some(name), rest);
    }
    let is_part = |sign: char| sign.is_ascii_alphanumeric() || sign == '_';
    let (name, rest) = text.split_at(text.find(|sign| !is_part(sign)).unwrap_or(text.len()));
    (Some(name).filter(|name| !name.is_empty()), rest)
}

/// The home directory of another user.
fn home_of(user: &str) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    // NAME:PASSWORD:UID:GID:COMMENT:HOME:SHELL
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(user)).then(|| fields.nth(4).map(str::to_owned))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look<'a>(vars: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| {
            vars.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_string())
        }
    }

    fn from(vars: &[(&str, &str)]) -> HubOptions {
        HubOptions::from_vars(look(vars))
    }

    #[test]
    fn the_environment_is_read_as_other_hub_clients_read_it() {
        assert_eq!(from(&[]), HubOptions::default());
        assert_eq!(from(&[("HF_ENDPOINT", "")]), HubOptions::default());
        assert_eq!(
            from(&[("HF_ENDPOINT", "http://127.0.0.1:9")])
                .endpoint
                .as_deref(),
            Some("http://127.0.0.1:9")
        );
        for (name, value, offline) in [
            ("HF_HUB_OFFLINE", "1", true),
            ("HF_HUB_OFFLINE", "TRUE", true),
            ("HF_HUB_OFFLINE", "on", true),
            ("HF_HUB_OFFLINE", "Yes ", true),
            ("HF_HUB_OFFLINE", "0", false),
            ("TRANSFORMERS_OFFLINE", "1", true),
        ] {
            assert_eq!(from(&[(name, value)]).offline, offline, "{name}={value}");
        }
        let both = from(&[("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")]);
        assert!(!both.offline);
    }

    #[test]
    fn the_cache_is_where_other_hub_clients_have_it() {
        let home = ("HOME", "/home/me");
        for (vars, expected) in [
            (&[home][..], "/home/me/.cache/huggingface/hub"),
            (&[home, ("XDG_CACHE_HOME", "/x")][..], "/x/huggingface/hub"),
            (
                &[home, ("XDG_CACHE_HOME", "~/x")],
                "/home/me/x/huggingface/hub",
            ),
            (
                &[home, ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "/h")],
                "/h/hub",
            ),
            (&[home, ("HF_HOME", "~/h")], "/home/me/h/hub"),
            (&[home, ("HF_HOME", "~")], "/home/me/hub"),
            (&[home, ("HF_HOME", "$HOME/h")], "/home/me/h/hub"),
            (
                &[home, ("HF_HOME", "/d/${HOME}x/$NO/$")],
                "/d//home/mex/$NO/$/hub",
            ),
            (&[home, ("HF_HOME", "/a$b/${NO}/${")], "/a$b/${NO}/${/hub"),
            (&[home, ("HF_HOME", "/a~/b")], "/a~/b/hub"),
            (&[home, ("HF_HOME", "~nosuchuser/h")], "~nosuchuser/h/hub"),
            (
                &[home, ("HF_HOME", "/h"), ("HF_HUB_CACHE", "~/c")],
                "/home/me/c",
            ),
            (
                &[home, ("HF_HUB_CACHE", " ")],
                "/home/me/.cache/huggingface/hub",
            ),
            (&[("HUGGINGFACE_HUB_CACHE", "/o")], "/o"),
            (
                &[("HUGGINGFACE_HUB_CACHE", "/o"), ("HF_HUB_CACHE", "/c")],
                "/c",
            ),
            (&[("HF_HUB_CACHE", "$D/c"), ("D", "/ü")], "/ü/c"),
        ] {
            let found = from(vars).cache_dir;
            assert_eq!(found, Some(PathBuf::from(expected)), "{vars:?}");
        }
    }

    #[test]
    fn the_home_of_another_user_is_looked_up() {
        // On every Unix.
        if let Some(root) = home_of("root") {
            let found = from(&[("HF_HUB_CACHE", "~root/c")]).cache_dir;
            assert_eq!(found, Some(PathBuf::from(root).join("c")));
        }
    }

    fn token(vars: &[(&str, &str)]) -> Option<(String, String)> {
        let token = Token::from_vars(look(vars))?;
        Some((token.value().unwrap().to_owned(), token.origin))
    }

    #[test]
    fn a_token_is_what_is_left_without_line_ends_and_spaces() {
        for text in ["hf_x", "hf_x\n", " hf_x\r\n", "\thf_\nx "] {
            let expected = Some(("hf_x".to_owned(), "HF_TOKEN".to_owned()));
            assert_eq!(token(&[("HF_TOKEN", text)]), expected, "{text:?}");
        }
        for text in ["", " ", "\n", "\r\n "] {
            assert_eq!(token(&[("HF_TOKEN", text)]), None, "{text:?}");
        }
        let hidden = format!("{:?}", Token::new("hf_secret", "HF_TOKEN"));
        assert!(!hidden.contains("secret") && hidden.contains("HF_TOKEN"));
        let unusable = Token::new("hf x", "HF_TOKEN").unwrap();
        let message = unusable.value().unwrap_err().to_string();
        assert!(message.contains("HF_TOKEN") && !message.contains("hf x"));
    }

    #[test]
    fn a_token_is_looked_for_in_files_too() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        fs::write(folder.path().join("token"), "hf_home\n").unwrap();
        fs::write(folder.path().join("other"), " hf_other ").unwrap();
        let found = |vars: &[(&str, &str)]| token(vars).map(|(value, _)| value);
        let at_home = ("HF_HOME", home);
        assert_eq!(found(&[at_home]).as_deref(), Some("hf_home"));
        let path = ("HF_TOKEN_PATH", "$HF_HOME/other");
        assert_eq!(found(&[at_home, path]).as_deref(), Some("hf_other"));
        let given = ("HF_TOKEN", "hf_given");
        assert_eq!(found(&[at_home, path, given]).as_deref(), Some("hf_given"));
        let blank = ("HF_TOKEN", " \n");
        assert_eq!(found(&[at_home, blank]).as_deref(), Some("hf_home"));
        let old = ("HUGGING_FACE_HUB_TOKEN", "hf_old");
        assert_eq!(found(&[at_home, old]).as_deref(), Some("hf_old"));
        let off = ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
        assert_eq!(found(&[at_home, given, off]), None);
        assert_eq!(found(&[("HF_TOKEN_PATH", "/no/such/file")]), None);
    }
}
