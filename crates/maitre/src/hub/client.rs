//! The Hub over HTTP: the three questions that a download asks, each repeated while the Hub or the
//! network is in trouble.
//!
//! | question | address |
//! |---|---|
//! | which commit is this revision | `/api/models/ORG/NAME/revision/REVISION` |
//! | which files has the commit | `/api/models/ORG/NAME/tree/COMMIT` |
//! | the bytes of a file | `/ORG/NAME/resolve/COMMIT/FILE` |

use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;

use super::error::{HubError, said};

/// The Hub that is asked where none is named.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// First pause before a request is repeated.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// How often a request is repeated.
const REPETITIONS: u32 = 5;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The Hub does not give it.
    #[error("the Hub answered {}{}", .0.status, said(.0.message.as_deref()))]
    Refused(Box<Refusal>),
    /// The network gave nothing that can be read.
    #[error(transparent)]
    Request(#[from] reqwest::Error),
}

/// An answer of the Hub that is no success.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// The Hub's word for it, such as `GatedRepo`.
    pub(super) code: Option<String>,
    /// The Hub's sentence about it.
    pub(super) message: Option<String>,
}

impl Refusal {
    async fn of(response: Response) -> Self {
        let text = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (code, message) = (text("x-error-code"), text("x-error-message"));
        let status = response.status();
        let body = response.bytes().await.unwrap_or_default();
        Self {
            status,
            code,
            message: message.or_else(|| message_in(&body)),
        }
    }
}

/// The message of `{"error": MESSAGE}`.
fn message_in(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(body.get("error")?.as_str()?.to_owned())
}

/// An entry of a commit.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum TreeEntry {
    /// A file.
    File {
        /// Git object id.
        oid: String,
        /// In bytes.
        size: u64,
        /// Name with its folders.
        path: String,
    },
    /// A folder, or what the Hub may list beside files one day.
    #[serde(other)]
    Other,
}

/// A Hub. Clones share their connections.
#[derive(Debug, Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    endpoint: String,
    retry_delay: Duration,
}

impl Client {
    /// The Hub at `endpoint`, which is shown the token if there is one.
    ///
    /// # Errors
    /// [`HubError::Endpoint`] if the address is not a URL.
    pub(super) fn new(
        endpoint: Option<String>,
        token: Option<&str>,
        retry_delay: Option<Duration>,
    ) -> Result<Self, HubError> {
        let endpoint = endpoint.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
        let unusable = |reason: String| HubError::Endpoint {
            endpoint: endpoint.clone(),
            reason,
        };
        Url::parse(&endpoint).map_err(|error| unusable(error.to_string()))?;
        maitre_server::install_crypto_provider();
        let http = reqwest::Client::builder()
            .user_agent(concat!("maitre/", env!("CARGO_PKG_VERSION")))
            .default_headers(authorization(token))
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self {
            http,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            retry_delay: retry_delay.unwrap_or(RETRY_DELAY),
        })
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The commit that `revision` of `model` points to, if the Hub names one.
    pub(super) async fn commit(
        &self,
        model: &str,
        revision: &str,
    ) -> Result<Option<String>, Failure> {
        #[derive(Deserialize)]
        struct Revision {
            sha: Option<String>,
        }
        // The Hub takes a revision for one segment of the path.
        let revision = revision.replace('/', "%2F");
        let url = format!("{}/api/models/{model}/revision/{revision}", self.endpoint);
        let answer = self.ask(|| self.http.get(&url)).await?;
        Ok(answer.json::<Revision>().await?.sha)
    }

    /// Everything that the commit of `model` holds, in all folders.
    pub(super) async fn tree(&self, model: &str, commit: &str) -> Result<Vec<TreeEntry>, Failure> {
        let first = format!("{}/api/models/{model}/tree/{commit}", self.endpoint);
        let mut next = Some(format!("{first}?recursive=true"));
        let mut entries = Vec::new();
        while let Some(page) = next {
            let answer = self.ask(|| self.http.get(&page)).await?;
            next = next_page(answer.headers());
            entries.extend(answer.json::<Vec<TreeEntry>>().await?);
        }
        Ok(entries)
    }

    /// The bytes of a file of `model` from `start` on, of `size` in all.
    pub(super) async fn open(
        &self,
        model: &str,
        commit: &str,
        file: &str,
        start: u64,
        size: u64,
    ) -> Result<Response, Failure> {
        let url = format!("{}/{model}/resolve/{commit}/{file}", self.endpoint);
        let range = (start > 0).then(|| format!("bytes={start}-{}", size.saturating_sub(1)));
        self.ask(|| {
            let request = self.http.get(&url);
            match &range {
                Some(range) => request.header(header::RANGE, range),
                None => request,
            }
        })
        .await
    }

    /// Sends a request until there is an answer that another attempt would hardly change.
    async fn ask(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, Failure> {
        let mut repetitions = 0;
        loop {
            let result = request().send().await;
            let in_trouble = match &result {
                Ok(response) => is_trouble(response.status()),
                // To ask for something twice does no harm, wherever the first attempt broke off.
                Err(error) => error.is_request() || error.is_timeout(),
            };
            if !in_trouble || repetitions == REPETITIONS {
                return answer(result).await;
            }
            repetitions += 1;
            tracing::debug!(repetitions, ?result, "asking the Hub again");
            tokio::time::sleep(pause(self.retry_delay, repetitions)).await;
        }
    }
}

async fn answer(result: Result<Response, reqwest::Error>) -> Result<Response, Failure> {
    let response = result?;
    if response.status().is_success() {
        return Ok(response);
    }
    Err(Failure::Refused(Box::new(Refusal::of(response).await)))
}

/// The header that shows `token`. One that cannot stand in a header is not sent.
fn authorization(token: Option<&str>) -> HeaderMap {
    let value = token.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
    let value = value.map(|mut value| {
        // Keeps it out of what is printed for debugging.
        value.set_sensitive(true);
        (header::AUTHORIZATION, value)
    });
    value.into_iter().collect()
}

/// Whether the Hub may answer otherwise soon.
fn is_trouble(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// A pause which doubles, times a random factor below one: the clients that a broken Hub has turned away do not come
/// back together.
fn pause(delay: Duration, repetitions: u32) -> Duration {
    let factor = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    delay.saturating_mul(1 << repetitions).mul_f64(factor)
}

/// The address in `Link: <ADDRESS>; rel="next"`.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = headers.get(header::LINK)?.to_str().ok()?;
    let next = links
        .split(',')
        .find(|link| link.contains("rel=\"next\""))?;
    let (_, address) = next.split_once('<')?;
    Some(address.split_once('>')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_listing_goes_on_where_its_header_says() {
        let cases = [
            (
                "<https://h/prev>; rel=\"prev\", <https://h/tree?cursor=a>; rel=\"next\"",
                Some("https://h/tree?cursor=a"),
            ),
            ("<https://h/prev>; rel=\"prev\"", None),
            ("rel=\"next\"", None),
        ];
        for (link, expected) in cases {
            let value = HeaderValue::from_static(link);
            let headers = HeaderMap::from_iter([(header::LINK, value)]);
            assert_eq!(next_page(&headers).as_deref(), expected, "{link}");
        }
        assert_eq!(next_page(&HeaderMap::new()), None);
    }

    #[test]
    fn pauses_double_and_never_exceed_their_share() {
        let delay = Duration::from_millis(100);
        for repetitions in 1..=REPETITIONS {
            assert!(pause(delay, repetitions) <= delay * 2_u32.pow(repetitions));
        }
    }

    #[test]
    fn a_token_is_not_shown_by_debugging() {
        let headers = authorization(Some("hf_secret"));
        assert_eq!(headers[header::AUTHORIZATION], "Bearer hf_secret");
        assert!(!format!("{headers:?}").contains("hf_secret"));
        assert!(authorization(None).is_empty());
    }
}
