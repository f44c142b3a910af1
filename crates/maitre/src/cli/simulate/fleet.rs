//! The fleet: how many replicas, where requests go, and when replicas start, stop and fail.

use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use maitre_sim::routing::Routing;
use maitre_sim::{Autoscaling, Failures, OnFailure, ScaleBy, Simulation, Split};

use crate::cli::trace_file::time;

/// The replicas.
#[derive(Debug, Args)]
pub(super) struct FleetArgs {
    /// Replicas of the model, each on hardware of its own; with --autoscale, at first.
    #[arg(long, default_value_t = 1, value_name = "N")]
    replicas: usize,
    /// How requests are sent to the replicas.
    #[arg(long, default_value = "round-robin", value_name = "ROUTING", value_parser = routings())]
    routing: Routing,
    /// Start and stop replicas by the requests that wait for each (queue:4), by the share of the KV cache that requests hold (kv:0.7), or by the
    /// share of answers that keep to --slo (slo:0.95).
    #[arg(long, value_name = "BY", requires = "max_replicas")]
    autoscale: Option<ScaleBy>,
    /// Fewest replicas.
    #[arg(long, default_value_t = 1, value_name = "N", requires = "autoscale")]
    min_replicas: usize,
    /// Most replicas.
    #[arg(long, value_name = "N", requires = "autoscale")]
    max_replicas: Option<usize>,
    /// From the start of a replica to its first request.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = any_time, requires = "autoscale")]
    cold_start: Duration,
    /// From one look at the fleet to the next.
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = time, requires = "autoscale")]
    scale_every: Duration,
    /// How long nothing has to have changed before a replica is stopped.
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = any_time, requires = "autoscale")]
    cooldown: Duration,
    /// Let each replica fail, so long after it was ready on average, such as 3600s [default: none fails].
    #[arg(long, value_name = "TIME", value_parser = time)]
    mtbf: Option<Duration>,
    /// From a failure until the replica is ready again.
    #[arg(long, default_value = "300s", value_name = "TIME", value_parser = any_time, requires = "mtbf")]
    repair_time: Duration,
    /// What becomes of the requests of a replica that fails.
    #[arg(long, default_value = "reroute", value_name = "WHAT", value_parser = on_failures(), requires = "mtbf")]
    on_failure: OnFailure,
    /// Replicas that only compute prompts, in place of --replicas.
    #[arg(long, value_name = "N", requires = "decode_replicas", conflicts_with_all = ["replicas", "autoscale"])]
    prefill_replicas: Option<usize>,
    /// Replicas that only compute what comes behind the first token.
    #[arg(long, value_name = "M", requires = "prefill_replicas")]
    decode_replicas: Option<usize>,
    /// Bytes a second over the link on which keys and values come to each of them.
    #[arg(
        long,
        default_value_t = 50e9,
        value_name = "BYTES",
        requires = "prefill_replicas"
    )]
    link_bytes_per_second: f64,
}

impl FleetArgs {
    /// Sets a simulation up for them.
    pub(super) fn apply(&self, simulation: &mut Simulation) {
        (simulation.replicas, simulation.routing) = (self.replicas, self.routing);
        simulation.autoscaling = self.autoscale.map(|by| Autoscaling {
            by,
            min: self.min_replicas,
            max: self.max_replicas.unwrap_or(self.replicas),
            cold_start: self.cold_start,
            every: self.scale_every,
            cooldown: self.cooldown,
        });
        simulation.failures = self.mtbf.map(|mtbf| Failures {
            mtbf,
            repair: self.repair_time,
            on_failure: self.on_failure,
        });
        let split = self.prefill_replicas.zip(self.decode_replicas);
        simulation.split = split.map(|(prefill, decode)| Split {
            prefill,
            decode,
            link_bytes_per_second: self.link_bytes_per_second,
        });
    }
}

/// Every routing by its name.
fn routings() -> impl TypedValueParser<Value = Routing> {
    let names = Routing::ALL.map(|routing| PossibleValue::new(routing.name()));
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Routing>())
}

fn on_failures() -> impl TypedValueParser<Value = OnFailure> {
    let names = OnFailure::ALL.map(|it| PossibleValue::new(it.name()));
    PossibleValuesParser::new(names).try_map(|name| name.parse::<OnFailure>())
}

/// A time with its unit, or 0.
fn any_time(text: &str) -> Result<Duration, String> {
    match text.trim().trim_end_matches('s') {
        "0" => Ok(Duration::ZERO),
        _ => time(text),
    }
}
