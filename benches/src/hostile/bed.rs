//! One server with its neighbours and probes, and what an attack does to them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use maitre_proto::v1::GetLoadRequest;
use maitre_proto::v1::admin_service_client::AdminServiceClient;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::attacks::{Attack, Conduct};
use super::honest::Neighbours;
use super::probes::{self, Probes};
use super::process::{self, Server, Usage};
use super::report::{Bounds, Held, Row};
use super::samples::{Phase, Recorder};
use super::tally::Gains;

/// Before anything is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// An attacker that has not left by itself this long after its time is ended.
const OVERTIME: Duration = Duration::from_secs(10);
/// Of 20, the lowest priority. At this one a process gets a tenth of a core that the server wants, too: enough to
/// send bytes made beforehand, and little enough for the neighbours not to notice (the attack `control` tells).
const NICENESS: &str = "10";
/// Between two looks at what is still held.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// A small KV cache: a budget of which most is never touched would hide what an attack takes.
const SERVER_FLAGS: [&str; 2] = ["--kv-cache-bytes", "134217728"];

/// How long the phases of an attack are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phases {
    pub(crate) quiet: Duration,
    pub(crate) attack: Duration,
}

/// A server under test.
#[derive(Debug)]
pub(crate) struct Bed {
    flags: &'static [&'static str],
    server: Server,
    neighbours: Neighbours,
    count: usize,
    recorder: Recorder,
    _probes: Probes,
    /// What the server holds when it has nothing to do.
    idle: Usage,
    /// The neighbours before the first attack.
    first_quiet: Option<Phase>,
    attacker: PathBuf,
}

impl Bed {
    /// `attacker` is the program that attacks, see [`Bed::attack`].
    pub(crate) async fn start(
        maitre: &Path,
        attacker: &Path,
        count: usize,
        flags: &'static [&'static str],
    ) -> Result<Self> {
        let all: Vec<&str> = SERVER_FLAGS.iter().chain(flags).copied().collect();
        let server = Server::start(maitre, &all)?;
        let recorder = Recorder::new();
        let neighbours = Neighbours::start(count, server.grpc, &recorder)?;
        neighbours.resume();
        sleep(WARM_UP).await;
        neighbours.pause(WARM_UP * 10).await;
        let mut idle = server.usage()?;
        idle.tasks = probes::tasks(server.http).await?;
        let probes = Probes::start(server.grpc, server.http, &recorder);
        Ok(Self {
            flags,
            server,
            neighbours,
            count,
            recorder,
            _probes: probes,
            idle,
            first_quiet: None,
            attacker: attacker.to_owned(),
        })
    }

    pub(crate) fn suits(&self, attack: &Attack) -> bool {
        self.flags == attack.flags
    }

    /// The neighbours by themselves.
    pub(crate) async fn quiet(&self, length: Duration) -> Phase {
        self.neighbours.resume();
        sleep(length / 10).await;
        self.recorder.next_phase();
        sleep(length).await;
        self.recorder.next_phase()
    }

    /// A quiet phase, an attack, and the time until everything is free.
    pub(crate) async fn attack(
        &mut self,
        attack: &Attack,
        phases: Phases,
        bounds: &Bounds,
    ) -> Result<Row> {
        let mut quiet = self.quiet(phases.quiet).await;
        self.first_quiet.get_or_insert_with(|| quiet.clone());
        if attack.has_legal_load() {
            self.attackers(attack, Conduct::Legal, phases.quiet).await?;
            quiet = self.recorder.next_phase();
        }
        self.server.reset_peak()?;
        let gains = self
            .attackers(attack, Conduct::Hostile, phases.attack)
            .await?;
        let attacked = self.recorder.next_phase();
        let row = Row {
            attack: attack.name,
            quiet,
            attacked,
            gains,
            ..Row::default()
        };
        self.finish(row, bounds).await
    }

    /// The neighbours by themselves once more, beside what they were before this server's first attack.
    pub(crate) async fn recovery(&mut self, phases: Phases, bounds: &Bounds) -> Result<Row> {
        // A server that is gone has no peak; the row says that it is gone.
        let _ = self.server.reset_peak();
        let row = Row {
            attack: "recovery",
            quiet: self.first_quiet.clone().unwrap_or_default(),
            attacked: self.quiet(phases.attack).await,
            ..Row::default()
        };
        self.finish(row, bounds).await
    }

    /// Adds what the server took, what it still holds, and whether it lives.
    async fn finish(&mut self, row: Row, bounds: &Bounds) -> Result<Row> {
        let peak_rss = self.server.usage().unwrap_or_default().peak_rss;
        let (free_after, still_held) = self.freed(bounds).await;
        let at_rest = self.server.usage().unwrap_or_default().anonymous;
        let death = self.server.ended()?;
        let death = death.map(|status| format!("{status}\n{}", self.server.last_lines()));
        Ok(Row {
            peak_rss,
            budget: self.server.budget()?,
            free_after,
            still_held,
            at_rest,
            death,
            ..row
        })
    }

    /// Attacks from a process of its own, of low priority: what it takes of the machine is not the server's fault.
    async fn attackers(
        &self,
        attack: &Attack,
        conduct: Conduct,
        length: Duration,
    ) -> Result<Gains> {
        let mut command: Command = process::with_many_files(&["nice", "-n", NICENESS]).into();
        command.arg(&self.attacker).args(["attack", attack.name]);
        if conduct == Conduct::Legal {
            command.arg("--legal");
        }
        let attacker = command
            .args(["--grpc", &self.server.grpc.to_string()])
            .args(["--http", &self.server.http.to_string()])
            .args(["--neighbours", &self.count.to_string()])
            .args(["--seconds", &length.as_secs_f64().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the attacker")?;
        let output = timeout(length + OVERTIME, attacker.wait_with_output()).await;
        let gains = match output {
            Ok(output) => serde_json::from_slice(&output?.stdout)
                .map_err(|_| "the attack could not be made; its process failed"),
            Err(_elapsed) => Err("the attacker did not end by itself"),
        };
        // Nothing can be said of a server that was not attacked as it should have been.
        Ok(gains.unwrap_or_else(|fault| Gains {
            faults: vec![fault.to_owned()],
            ..Gains::default()
        }))
    }

    /// Lets the neighbours finish and looks until nothing is held.
    async fn freed(&self, bounds: &Bounds) -> (Option<Duration>, Vec<String>) {
        let began = Instant::now();
        let neighbours = self.neighbours.pause(bounds.free_within).await;
        loop {
            let held = Held {
                neighbours,
                load: self.load().await,
                usage: self.usage().await,
            };
            let beyond = held.beyond(&self.idle, bounds);
            if beyond.is_empty() {
                return (Some(began.elapsed()), beyond);
            }
            if began.elapsed() >= bounds.free_within {
                return (None, beyond);
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// What the server holds now; nothing if it does not say.
    async fn usage(&self) -> Usage {
        let usage = self.server.usage().unwrap_or_default();
        let asked = probes::tasks(self.server.http);
        let tasks = timeout(Duration::from_secs(1), asked).await;
        Usage {
            tasks: tasks.ok().and_then(Result::ok).unwrap_or_default(),
            ..usage
        }
    }

    async fn load(&self) -> Option<(u32, u32, u32)> {
        let ask = async {
            let address = format!("http://{}", self.server.grpc);
            let mut client = AdminServiceClient::connect(address).await.ok()?;
            let load = client.get_load(GetLoadRequest {}).await.ok()?.into_inner();
            Some((load.in_flight, load.waiting, load.kv_used_blocks))
        };
        timeout(Duration::from_secs(1), ask).await.ok()?
    }
}
