//! Weighted fair service between tenants, by virtual token counters (Sheng et al. 2024, "Fairness in Serving
//! Large Language Models", algorithm 2).
//!
//! Each tenant has a counter of the service it got, divided by its weight. The tenant with the smallest
//! counter is next. A tenant that comes back after it had nothing waiting is lifted to the smallest counter
//! among those that wait: absence earns no credit.
//!
//! **The bound** (after their theorem 4.4): as long as two tenants both have requests waiting, the services they
//! get, each divided by its weight, never differ by more than the sum of what each can be ahead, which is
//! `(PROMPT_TOKEN_COST * L + OUTPUT_TOKEN_COST * M) / weight` with the longest prompt `L` and the most output
//! tokens `M` that the requests running at a time may get, `max_seqs` times the longest output. For a tenant is
//! admitted only while nobody who waits has a smaller counter: from then on it is charged that one prompt and
//! what its running requests still generate, before the other has to have caught up. A tenant that sends a
//! hundred times as many requests gets no more.

use std::collections::{BTreeMap, BTreeSet};

use super::{Policy, Service, Waiting};
use crate::request::{Place, TenantId};

/// What one prompt token costs a tenant.
pub const PROMPT_TOKEN_COST: u64 = 1;

/// What one output token costs a tenant: it occupies a step of its own, while prompt tokens share one.
pub const OUTPUT_TOKEN_COST: u64 = 2;

/// Counters are in parts of a cost, so that they can be divided by weights. This number divides by all
/// weights up to 16; for others less than one part is lost each time.
const SCALE: u64 = 720_720;

/// Tenants beyond which those who are gone and have nothing to their account are forgotten.
const REMEMBERED_TENANTS: usize = 4096;

#[derive(Debug, Clone, Default)]
struct Account {
    /// Service so far, scaled and divided by the weight.
    counter: u64,
    waiting: BTreeSet<Place>,
}

/// Admits from the tenant that was served least, relative to its weight.
#[derive(Debug, Clone, Default)]
pub struct WeightedFair {
    accounts: BTreeMap<TenantId, Account>,
    /// Tenants with requests waiting, least served first.
    order: BTreeSet<(u64, TenantId)>,
    /// The tenant that was the last to have nothing waiting any more. What it is still running counts too.
    last_left: Option<TenantId>,
    /// Accounts at which those who are gone are looked for.
    sweep_at: usize,
}

impl WeightedFair {
    /// A policy that knows nobody.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a tenant without waiting requests starts from when it comes back.
    fn floor(&self) -> u64 {
        match self.order.first() {
            Some(&(counter, _)) => counter,
            None => {
                let last = self.last_left.and_then(|last| self.accounts.get(&last));
                last.map_or(0, |account| account.counter)
            }
        }
    }

    /// Forgets tenants whose counter would be lifted to the floor anyway, once there are many. Looking again
    /// only when they are twice as many keeps the cost per call constant.
    fn forget_the_idle(&mut self) {
        if self.accounts.len() < self.sweep_at.max(REMEMBERED_TENANTS) {
            return;
        }
        let (floor, last) = (self.floor(), self.last_left);
        self.accounts.retain(|tenant, account| {
            !account.waiting.is_empty() || account.counter > floor || Some(*tenant) == last
        });
        self.sweep_at = 2 * self.accounts.len();
    }
}

impl Policy for WeightedFair {
    fn enter(&mut self, request: &Waiting) {
        let floor = self.floor();
        self.forget_the_idle();
        let account = self.accounts.entry(request.tenant).or_default();
        if account.waiting.is_empty() {
            account.counter = account.counter.max(floor);
            self.order.insert((account.counter, request.tenant));
        }
        account.waiting.insert(request.place);
    }

    fn leave(&mut self, request: &Waiting) {
        let Some(account) = self.accounts.get_mut(&request.tenant) else {
            return;
        };
        if account.waiting.remove(&request.place) && account.waiting.is_empty() {
            self.order.remove(&(account.counter, request.tenant));
            self.last_left = Some(request.tenant);
        }
    }

    fn next(&self, limit: usize) -> Vec<Place> {
        let Some((_, tenant)) = self.order.first() else {
            return Vec::new();
        };
        let account = self.accounts.get(tenant);
        let waiting = account.into_iter().flat_map(|account| &account.waiting);
        waiting.take(limit).copied().collect()
    }

    fn served(&mut self, service: Service) {
        let cost = service.prompt_tokens as u64 * PROMPT_TOKEN_COST
            + service.output_tokens as u64 * OUTPUT_TOKEN_COST;
        let account = self.accounts.entry(service.tenant).or_default();
        let before = account.counter;
        account.counter += cost * SCALE / u64::from(service.weight.max(1));
        if self.order.remove(&(before, service.tenant)) {
            self.order.insert((account.counter, service.tenant));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Time;

    fn waiting(tenant: u64, serial: u64) -> Waiting {
        Waiting {
            place: Place::new(Time::ZERO, serial),
            priority: 0,
            deadline: None,
            tenant: TenantId(tenant),
            weight: 1,
        }
    }

    fn serve(policy: &mut WeightedFair, tenant: u64, weight: u32, output_tokens: usize) {
        policy.served(Service {
            tenant: TenantId(tenant),
            weight,
            prompt_tokens: 0,
            output_tokens,
        });
    }

    #[test]
    fn the_least_served_tenant_is_next_and_weights_divide_what_service_costs() {
        let mut policy = WeightedFair::new();
        policy.enter(&waiting(1, 0));
        policy.enter(&waiting(2, 1));
        policy.enter(&waiting(2, 2));
        serve(&mut policy, 1, 1, 10);
        assert_eq!(policy.next(9), [1, 2].map(|n| Place::new(Time::ZERO, n)));
        serve(&mut policy, 2, 4, 39);
        assert_eq!(policy.next(1), [Place::new(Time::ZERO, 1)], "39 / 4 < 10");
        serve(&mut policy, 2, 4, 2);
        assert_eq!(policy.next(9), [Place::new(Time::ZERO, 0)], "41 / 4 > 10");
    }

    #[test]
    fn absence_earns_no_credit() {
        let mut policy = WeightedFair::new();
        policy.enter(&waiting(1, 0));
        serve(&mut policy, 1, 1, 1000);
        policy.enter(&waiting(2, 1));
        serve(&mut policy, 2, 1, 1);
        assert_eq!(
            policy.next(1),
            [Place::new(Time::ZERO, 0)],
            "tenant 2 began where tenant 1 was"
        );
        policy.leave(&waiting(1, 0));
        policy.leave(&waiting(2, 1));
        policy.enter(&waiting(3, 2));
        assert_eq!(
            policy.floor(),
            2 * 1001 * SCALE,
            "nobody waits: as the last that left"
        );
    }

    #[test]
    fn tenants_that_left_with_nothing_to_their_account_are_forgotten() {
        let mut policy = WeightedFair::new();
        policy.enter(&waiting(0, 0));
        for tenant in 1..10_000 {
            policy.enter(&waiting(tenant, tenant));
            policy.leave(&waiting(tenant, tenant));
        }
        assert!(policy.accounts.len() <= REMEMBERED_TENANTS);
        assert_eq!(policy.next(9), [Place::new(Time::ZERO, 0)]);
    }
}
