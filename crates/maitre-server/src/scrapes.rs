//! Rendering `/metrics` for as many as ask, at a bounded price.
//!
//! The text of a scrape takes about a millisecond, and a client that pipelines scrapes asks for thousands of them in
//! one packet. So scrapes that wait share one rendering, which begins after the last of them came: an answer always
//! has what was counted before it was asked for. Between two renderings there is a pause of a few times what the
//! last one took: all scrapes together never take more than a fifth of a core.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Bytes;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// A pause is this many times as long as the rendering before it.
const PAUSE: u32 = 4;

/// Renders a text for those who wait for one. Clones share the renderings.
#[derive(Debug, Clone)]
pub(crate) struct Scrapes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    render: fn() -> Option<String>,
    /// How many renderings have begun.
    begun: AtomicU64,
    last: Arc<Mutex<Last>>,
}

#[derive(Debug)]
struct Last {
    /// Its number, counted from one; 0 before the first.
    number: u64,
    text: Option<Bytes>,
    next_may_begin: Instant,
}

impl Scrapes {
    /// `render` runs on a blocking thread, once at a time.
    pub(crate) fn new(render: fn() -> Option<String>) -> Self {
        let last = Last {
            number: 0,
            text: None,
            next_may_begin: Instant::now(),
        };
        Self(Arc::new(Shared {
            render,
            begun: AtomicU64::new(0),
            last: Arc::new(Mutex::new(last)),
        }))
    }

    /// A text whose rendering began after this was called; `None` if there is nothing to render.
    ///
    /// # Cancel safety
    ///
    /// Dropped while it renders, the rendering goes on for those who wait.
    pub(crate) async fn text(&self) -> Option<Bytes> {
        let shared = &*self.0;
        let seen = shared.begun.load(Ordering::SeqCst);
        let mut last = Arc::clone(&shared.last).lock_owned().await;
        if last.number > seen {
            return last.text.clone();
        }
        tokio::time::sleep_until(last.next_may_begin).await;
        last.number = shared.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let render = shared.render;
        let rendered = tokio::task::spawn_blocking(move || {
            // What is cut short by a panic leaves nothing to show.
            last.text = None;
            let began = Instant::now();
            last.text = render().map(Bytes::from);
            last.next_may_begin = began + began.elapsed() * (1 + PAUSE);
            last.text.clone()
        });
        rendered.await.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    /// Those who come while a text is rendered share the next one; who comes later gets a new one.
    #[tokio::test(start_paused = true)]
    async fn scrapes_that_wait_share_a_rendering_that_began_after_they_came() {
        static RENDERED: AtomicUsize = AtomicUsize::new(0);
        let scrapes = Scrapes::new(|| {
            let number = RENDERED.fetch_add(1, Ordering::SeqCst) + 1;
            Some(number.to_string())
        });
        assert_eq!(scrapes.text().await.unwrap(), "1");
        let held = scrapes.0.last.lock().await;
        let waiting: Vec<_> = (0..1000)
            .map(|_| {
                tokio::spawn({
                    let scrapes = scrapes.clone();
                    async move { scrapes.text().await }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        drop(held);
        for text in waiting {
            assert_eq!(text.await.unwrap().unwrap(), "2");
        }
        assert_eq!(scrapes.text().await.unwrap(), "3");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_follows_each_rendering() {
        let scrapes = Scrapes::new(|| Some(String::new()));
        let began = Instant::now();
        scrapes.text().await;
        assert_eq!(began.elapsed(), Duration::ZERO, "the first does not wait");
        let pause = Duration::from_secs(3);
        scrapes.0.last.lock().await.next_may_begin = began + pause;
        scrapes.text().await;
        assert!(began.elapsed() >= pause);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_leaves_neither_loses_the_text_nor_begins_another() {
        static RENDERED: AtomicUsize = AtomicUsize::new(0);
        static MAY_RENDER: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let scrapes = Scrapes::new(|| {
            let _may = MAY_RENDER.lock();
            RENDERED.fetch_add(1, Ordering::SeqCst);
            Some("text".to_owned())
        });
        let not_yet = MAY_RENDER.lock();
        let mut leaving = Box::pin(scrapes.text());
        let mut waiting = Box::pin(scrapes.text());
        assert!(leaving.as_mut().now_or_never().is_none());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(leaving);
        drop(not_yet);
        assert_eq!(waiting.await.unwrap(), "text");
        // The one that waited had come after the rendering began, so it needed a second one.
        assert_eq!(RENDERED.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_panic_of_the_recorder_is_an_answer_without_a_text() {
        let broken = Scrapes::new(|| panic!("broken"));
        assert_eq!(broken.text().await, None);
        assert_eq!(broken.text().await, None);
    }
}
