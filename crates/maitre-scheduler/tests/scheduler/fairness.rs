//! No tenant gets ahead of another by more than the bound that `WeightedFair` promises, however much it asks.

use std::collections::BTreeMap;

use maitre_scheduler::{
    KvConfig, NewRequest, OUTPUT_TOKEN_COST, PROMPT_TOKEN_COST, PolicyKind, RequestId,
    SchedulerConfig, StepPlan, TenantId, Time,
};

use crate::flow::Flow;
use crate::life::Random;

const LONGEST_PROMPT: usize = 24;
const LONGEST_OUTPUT: usize = 20;

/// Two tenants that always have requests waiting, and what they were served.
struct Rivals {
    flow: Flow,
    random: Random,
    /// Whose request it is, and its prompt's length.
    requests: BTreeMap<RequestId, (usize, usize)>,
    waiting: [usize; 2],
    served: [u64; 2],
    weights: [u32; 2],
}

impl Rivals {
    fn new(config: SchedulerConfig, weights: [u32; 2], seed: u64) -> Self {
        Self {
            flow: Flow::new(config),
            random: Random(seed),
            requests: BTreeMap::new(),
            waiting: [0; 2],
            served: [0; 2],
            weights,
        }
    }

    /// Adds requests until both have so many waiting. The first asks for much at a time, the second for little.
    fn ask(&mut self, depths: [usize; 2]) {
        for tenant in 0..2 {
            while self.waiting[tenant] < depths[tenant] {
                let (prompt, output) = [
                    (LONGEST_PROMPT, LONGEST_OUTPUT),
                    (LONGEST_PROMPT / 3, LONGEST_OUTPUT / 2),
                ][tenant];
                let prompt = vec![7; 1 + self.random.below(prompt)];
                let id = self.flow.next_id();
                let len = prompt.len();
                let request = NewRequest {
                    tenant: TenantId(tenant as u64),
                    weight: self.weights[tenant],
                    arrival: self.flow.now,
                    ..NewRequest::new(id, prompt, 1 + self.random.below(output))
                };
                self.flow.scheduler.add(request).unwrap();
                self.requests.insert(RequestId(id), (tenant, len));
                self.waiting[tenant] += 1;
            }
        }
    }

    fn step(&mut self) -> StepPlan {
        let plan = self.flow.step(|_| Time::from_millis(1));
        for preempted in &plan.preempted {
            self.waiting[self.requests[&preempted.request].0] += 1;
        }
        for admitted in &plan.admitted {
            let (tenant, prompt) = self.requests[&admitted.request];
            self.waiting[tenant] -= 1;
            if !admitted.again {
                self.served[tenant] += prompt as u64 * PROMPT_TOKEN_COST;
            }
        }
        for span in plan.spans.iter().filter(|span| span.samples) {
            self.served[self.requests[&span.request].0] += OUTPUT_TOKEN_COST;
        }
        plan
    }

    /// By how much the first is ahead, as each counts its own weight.
    fn lead(&self) -> f64 {
        let share = |tenant: usize| self.served[tenant] as f64 / f64::from(self.weights[tenant]);
        share(0) - share(1)
    }
}

/// Without a prefix cache, so that every prompt costs what it is long.
fn config(max_seqs: usize, num_blocks: u32) -> SchedulerConfig {
    let kv = KvConfig {
        prefix_cache: false,
        ..KvConfig::new(num_blocks, 4)
    };
    SchedulerConfig {
        policy: PolicyKind::Fair,
        ..SchedulerConfig::new(max_seqs, 32, 48, kv)
    }
}

#[test]
fn a_hundred_times_the_requests_get_no_more_than_the_bound() {
    for (seed, weights) in [[1, 1], [1, 3], [3, 1], [5, 2]].into_iter().enumerate() {
        let config = config(6, 18);
        let most_running = config.max_seqs * LONGEST_OUTPUT;
        let most =
            LONGEST_PROMPT as u64 * PROMPT_TOKEN_COST + most_running as u64 * OUTPUT_TOKEN_COST;
        let bound: f64 = weights
            .iter()
            .map(|&weight| most as f64 / f64::from(weight))
            .sum();

        let mut rivals = Rivals::new(config, weights, seed as u64);
        let mut preempted = 0;
        for _ in 0..6000 {
            // One step may admit six: with seven, neither ever has nothing waiting.
            rivals.ask([200, 7]);
            preempted += rivals.step().preempted.len();
            let lead = rivals.lead();
            assert!(lead.abs() <= bound, "{lead} ahead, weights {weights:?}");
        }
        assert!(rivals.served.iter().sum::<u64>() as f64 > 10.0 * bound);
        assert!(preempted > 10, "the pool was too large to tell");
    }
}

/// A tenant that was away does not come back with the share it did not use.
#[test]
fn absence_is_not_saved_up() {
    let config = config(4, 100);
    let mut rivals = Rivals::new(config.clone(), [1, 1], 9);
    for _ in 0..1000 {
        rivals.ask([50, 0]);
        rivals.step();
    }
    let alone = rivals.lead();
    let most = LONGEST_PROMPT as f64 + 2.0 * (config.max_seqs * LONGEST_OUTPUT) as f64;
    for _ in 0..1000 {
        rivals.ask([50, 7]);
        rivals.step();
        let lead = rivals.lead() - alone;
        assert!(lead.abs() <= most, "{lead} since both are there");
    }
}

/// Users who ask one thing after another, each as a tenant of its own, whose numbers are as good as random.
struct Users {
    flow: Flow,
    random: Random,
    /// Of each user, the request that is not answered yet, and the tenant that it always is, if it is one.
    asking: Vec<Option<RequestId>>,
    regulars: usize,
}

impl Users {
    /// `regulars` of them come back as the same tenant, the others are new ones each time.
    fn new(policy: PolicyKind, users: usize, regulars: usize) -> Self {
        let config = SchedulerConfig {
            policy,
            ..config(4, 200)
        };
        Self {
            flow: Flow::new(config),
            random: Random(1),
            asking: vec![None; users],
            regulars,
        }
    }

    fn ask(&mut self) {
        for user in 0..self.asking.len() {
            let asked = self.asking[user];
            if asked.is_some_and(|id| self.flow.scheduler.tokens(id).is_some()) {
                continue;
            }
            let id = self.flow.next_id();
            let tenant = match user < self.regulars {
                true => Random(user as u64).next(),
                false => self.random.next(),
            };
            let request = NewRequest {
                tenant: TenantId(tenant),
                arrival: self.flow.now,
                // The same for each policy, whatever the order.
                ..NewRequest::new(id, vec![7; 1 + user % 9], 1 + id as usize % LONGEST_OUTPUT)
            };
            self.flow.scheduler.add(request).unwrap();
            self.asking[user] = Some(RequestId(id));
        }
    }

    /// The tenants admitted in so many steps, in this order, and how many of their milliseconds each waited.
    fn serve(mut self, steps: usize) -> Vec<(usize, u64)> {
        let mut admitted = Vec::new();
        let mut asked_at: BTreeMap<RequestId, Time> = BTreeMap::new();
        for _ in 0..steps {
            self.ask();
            let now = self.flow.now;
            for id in self.asking.iter().flatten() {
                asked_at.entry(*id).or_insert(now);
            }
            let plan = self.flow.step(|_| Time::from_millis(1));
            for request in plan.admitted.iter().map(|one| one.request) {
                let mut users = self.asking.iter();
                let user = users.position(|id| *id == Some(request)).unwrap();
                let waited = now - asked_at[&request];
                admitted.push((user, waited.as_millis() as u64));
            }
        }
        admitted
    }
}

/// One tenant per end user is a usual deployment. New tenants were all served the same, nothing, so fair is who
/// came first, not whose number is smaller.
#[test]
fn where_each_request_is_of_a_new_tenant_fair_service_is_first_come_first_served() {
    let of = |policy| Users::new(policy, 30, 0).serve(3000);
    let fair = of(PolicyKind::Fair);
    assert!(fair.len() > 1000, "{} were admitted", fair.len());
    assert_eq!(fair, of(PolicyKind::Fcfs));
}

/// Tenants that come back are charged for what they had, and yet do not wait for as long as new ones come.
#[test]
fn tenants_that_come_back_do_not_starve_behind_new_ones() {
    for regulars in [1, 5, 29, 30] {
        let longest = |policy| {
            let admitted = Users::new(policy, 30, regulars).serve(6000);
            let of_regulars = admitted.iter().filter(|(user, _)| *user < regulars);
            assert!(of_regulars.clone().count() > 10 * regulars, "{regulars}");
            let waits = of_regulars.map(|(_, waited)| *waited);
            waits.max().unwrap()
        };
        let (fair, fcfs) = (longest(PolicyKind::Fair), longest(PolicyKind::Fcfs));
        assert!(
            fair <= 5 * fcfs,
            "{regulars} regulars: {fair} ms, first come first served {fcfs} ms"
        );
    }
}
