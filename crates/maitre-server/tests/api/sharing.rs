//! What requests share and which are kept apart, over the wire.

use maitre_engine::{Engine, ModelSource, PolicyKind};
use maitre_proto::v1;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::test_server::{TestServer, short_request, soon};

const PROMPT: &str = "A waiter brings the menu, the water and the bread, and asks whether the guests have \
                      already decided what they would like to eat and drink this evening. They have not.";

fn engine(
    settings: impl FnOnce(maitre_engine::EngineBuilder) -> maitre_engine::EngineBuilder,
) -> Engine {
    let bundled = &maitre_bundled::TARGET;
    let source = ModelSource::Memory {
        name: bundled.name,
        files: bundled.files,
    };
    settings(Engine::builder(source).threads(Some(1)).max_seqs(4))
        .build()
        .unwrap()
}

async fn usage(served: &TestServer, tenant: &str, salt: &str, bypass: bool) -> v1::Usage {
    let mut request = short_request(PROMPT);
    request.service = Some(v1::ServiceOptions {
        tenant: tenant.into(),
        ..Default::default()
    });
    request.cache = Some(v1::CacheOptions {
        salt: salt.into(),
        bypass,
    });
    let answer = served.generation().generate(request).await.unwrap();
    answer.into_inner().answers[0].usage.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_found_again_by_its_own_tenant_and_salt_until_it_is_reset() {
    let served = TestServer::open().await;
    assert_eq!(usage(&served, "", "", false).await.cached_prompt_tokens, 0);
    let again = usage(&served, "", "", false).await;
    assert!(again.cached_prompt_tokens >= 16, "{again:?}");
    assert!(again.cached_prompt_tokens < again.prompt_tokens);
    assert_eq!(
        usage(&served, "acme", "", false).await.cached_prompt_tokens,
        0
    );
    assert_eq!(
        usage(&served, "", "pepper", false)
            .await
            .cached_prompt_tokens,
        0
    );
    assert_eq!(usage(&served, "", "", true).await.cached_prompt_tokens, 0);

    served.until_empty().await;
    let load = served
        .admin()
        .get_load(v1::GetLoadRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(load.prefix_hits, u64::from(again.cached_prompt_tokens));
    assert!(load.prefix_queries > load.prefix_hits && load.kv_cached_blocks > 0);
    let reset = served
        .admin()
        .reset_prefix_cache(v1::ResetPrefixCacheRequest {})
        .await
        .unwrap();
    assert_eq!(
        reset.into_inner().forgotten_blocks,
        u64::from(load.kv_cached_blocks)
    );
    assert_eq!(usage(&served, "", "", false).await.cached_prompt_tokens, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_hears_what_is_cached_and_is_told_when_nobody_speaks() {
    let served = TestServer::with(engine(|it| it.cache_events(true)), |server| server).await;
    let watch = served
        .admin()
        .watch_cache_events(v1::WatchCacheEventsRequest {})
        .await;
    let mut events = watch.unwrap().into_inner();
    let prompt_tokens = usage(&served, "", "", false).await.prompt_tokens as usize;
    let first = soon(events.message()).await.unwrap().unwrap();
    assert_eq!(first.sequence, 0);
    let mut parent = Vec::new();
    for event in &first.events {
        let Some(v1::cache_event::Change::Stored(stored)) = &event.change else {
            panic!("{event:?}")
        };
        assert_eq!(stored.parent_hash, parent, "blocks come in order");
        assert_eq!((stored.hash.len(), stored.token_ids.len()), (16, 16));
        parent = stored.hash.clone();
    }
    assert_eq!(first.events.len(), prompt_tokens / 16);
    served
        .admin()
        .reset_prefix_cache(v1::ResetPrefixCacheRequest {})
        .await
        .unwrap();
    // Blocks that the answer filled may be told of in between.
    let cleared = |message: &v1::WatchCacheEventsResponse| {
        let last = message.events.last();
        last.is_some_and(|it| matches!(it.change, Some(v1::cache_event::Change::Cleared(_))))
    };
    let mut sequence = first.sequence;
    loop {
        let message = soon(events.message()).await.unwrap().unwrap();
        sequence += 1;
        assert_eq!(message.sequence, sequence, "no gaps");
        if cleared(&message) {
            break;
        }
    }

    // A listener that stays does not hold up the end.
    served.stop.send(()).unwrap();
    let end = soon(events.message()).await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    assert_eq!(end.get_details_error_info().unwrap().reason, "DRAINING");
    soon(served.served).await.unwrap().unwrap();

    let silent = TestServer::open().await;
    let watch = silent
        .admin()
        .watch_cache_events(v1::WatchCacheEventsRequest {})
        .await;
    let refused = watch.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(
        refused.get_details_error_info().unwrap().reason,
        "CACHE_EVENTS_OFF"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_waiting_tokens_are_refused_with_a_delay() {
    let engine = engine(|it| it.max_seqs(1).max_queued_tokens(8));
    let served = TestServer::with(engine, |server| server).await;
    let running = served.busy("first").await;
    let waits = {
        let mut generation = served.generation();
        tokio::spawn(async move { generation.generate(short_request(PROMPT)).await })
    };
    served.until(|load| load.waiting == 1).await;
    let refused = served
        .generation()
        .generate(short_request(PROMPT))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "QUEUE_TOKENS_FULL");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    drop(running);
    soon(waits).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_says_how_it_serves() {
    let engine = engine(|it| {
        it.policy(PolicyKind::Fair)
            .prefix_cache(false)
            .itl_target(Some(std::time::Duration::from_millis(50)))
    });
    let served = TestServer::with(engine, |server| server).await;
    let info = served
        .admin()
        .get_server_info(v1::GetServerInfoRequest {})
        .await;
    let scheduling = info.unwrap().into_inner().scheduling.unwrap();
    assert_eq!(scheduling.policy, "fair");
    assert!(!scheduling.prefix_cache);
    assert_eq!(scheduling.itl_target.unwrap().nanos, 50_000_000);
    assert_eq!(scheduling.max_queue_wait, None);
}
