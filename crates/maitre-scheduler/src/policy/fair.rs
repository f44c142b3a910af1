//! Weighted fair service between tenants, by virtual token counters (Sheng et al. 2024, "Fairness in Serving
//! Large Language Models", algorithm 2).
//!
//! Each tenant has a counter of the service it got, divided by its weight. The tenant with the smallest
//! counter is next; of several, the one whose oldest request has waited longest. So tenants that were served
//! equally, new ones above all, are served in the order of their arrival. A preempted request had its turn
//! before: it goes on first.
//!
//! **Where a tenant begins** that had nothing waiting: at the *round*, unless its counter is larger. Absence
//! earns no credit. The round is what a tenant that waited all the time would have been served by now (the
//! virtual time of fair queueing: Parekh and Gallager 1993): service divides among the weights of the tenants
//! that wait, and the round goes up by each one's part. It stays between the smallest and the largest counter
//! of the waiting tenants; while none waits, nothing is scarce, and it is the largest counter that anything was charged
//! to. Sheng et al. begin at the smallest counter instead. It does not go up while new tenants keep coming
//! with one request each, and then every tenant that was served before waits for as long as they come.
//!
//! **The bound** (after their theorem 4.4): as long as two tenants both have requests waiting, the services they
//! get, each divided by its weight, never differ by more than the sum of what each can be ahead, which is
//! `(PROMPT_TOKEN_COST * L + OUTPUT_TOKEN_COST * M) / weight` with the longest prompt `L` and the most output
//! tokens `M` that the requests running at a time may get, `max_seqs` times the longest output. For a tenant is
//! admitted only while no waiting tenant has a smaller counter: from then on it is charged that one prompt and
//! what its running requests still generate, before the other has to have caught up. A tenant that sends a
//! hundred times as many requests gets no more.

use std::collections::{BTreeMap, BTreeSet};

use super::{Policy, QueueOrder, Service, Waiting};
use crate::request::{Place, TenantId};

/// What one prompt token costs a tenant.
pub const PROMPT_TOKEN_COST: u64 = 1;

/// What one output token costs a tenant: it occupies a step of its own, while prompt tokens share one.
pub const OUTPUT_TOKEN_COST: u64 = 2;

/// Counters are in parts of a cost, so that they can be divided by weights. This number divides by all
/// weights up to 16; for others less than one part is lost each time.
const SCALE: u128 = 720_720;

/// Tenants without waiting requests whose accounts are kept. Of more, those with the smallest counters are
/// forgotten: they have the least to catch up with.
const REMEMBERED_TENANTS: usize = 4096;

#[derive(Debug, Clone)]
struct Account {
    /// Service so far, scaled and divided by the weight.
    counter: u128,
    weight: u32,
    waiting: BTreeSet<Place>,
}

/// Admits from the tenant that was served least, relative to its weight.
#[derive(Debug, Clone, Default)]
pub struct WeightedFair {
    accounts: BTreeMap<TenantId, Account>,
    /// Tenants with requests waiting, least served first, then by their oldest request.
    order: BTreeSet<(u128, Place, TenantId)>,
    /// Tenants without, those with the least to catch up with first.
    gone: BTreeSet<(u128, TenantId)>,
    /// The weights of the tenants with requests waiting, together.
    waiting_weight: u64,
    round: u128,
    /// Requests that were preempted.
    preempted: BTreeSet<Place>,
}

impl WeightedFair {
    /// A policy that knows no tenant.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes an account, and its rank with it.
    fn change(&mut self, tenant: TenantId, weight: u32, change: impl FnOnce(&mut Account)) {
        let round = self.round;
        let account = self.accounts.entry(tenant).or_insert_with(|| Account {
            counter: round,
            weight,
            waiting: BTreeSet::new(),
        });
        if let Some(&oldest) = account.waiting.first() {
            self.order.remove(&(account.counter, oldest, tenant));
            self.waiting_weight -= u64::from(account.weight);
        } else {
            self.gone.remove(&(account.counter, tenant));
        }
        account.weight = weight.max(1);
        change(account);
        if let Some(&oldest) = account.waiting.first() {
            self.order.insert((account.counter, oldest, tenant));
            self.waiting_weight += u64::from(account.weight);
        } else {
            self.gone.insert((account.counter, tenant));
        }
        if self.gone.len() > REMEMBERED_TENANTS
            && let Some((_, forgotten)) = self.gone.pop_first()
        {
            self.accounts.remove(&forgotten);
        }
    }

    /// Keeps the round within what the tenants that wait were served.
    fn bound_round(&mut self) {
        if let (Some(least), Some(most)) = (self.order.first(), self.order.last()) {
            self.round = self.round.clamp(least.0, most.0);
        }
    }
}

impl Policy for WeightedFair {
    fn enter(&mut self, request: &Waiting) {
        if request.preemptions > 0 {
            self.preempted.insert(request.place);
            return;
        }
        self.bound_round();
        let round = self.round;
        self.change(request.tenant, request.weight, |account| {
            if account.waiting.is_empty() {
                account.counter = account.counter.max(round);
            }
            account.waiting.insert(request.place);
        });
    }

    fn leave(&mut self, request: &Waiting) {
        if !self.preempted.remove(&request.place) && self.accounts.contains_key(&request.tenant) {
            self.change(request.tenant, request.weight, |account| {
                account.waiting.remove(&request.place);
            });
        }
    }

    fn next(&self, limit: usize) -> Vec<Place> {
        if !self.preempted.is_empty() {
            return self.preempted.iter().take(limit).copied().collect();
        }
        let next = self.order.first();
        let account = next.and_then(|(_, _, tenant)| self.accounts.get(tenant));
        let waiting = account.into_iter().flat_map(|account| &account.waiting);
        waiting.take(limit).copied().collect()
    }

    fn queue_order(&self) -> QueueOrder {
        QueueOrder::TenantShares
    }

    fn served(&mut self, service: Service) {
        let cost = service.prompt_tokens as u64 * PROMPT_TOKEN_COST
            + service.output_tokens as u64 * OUTPUT_TOKEN_COST;
        let cost = u128::from(cost) * SCALE;
        let mut counter = 0;
        self.change(service.tenant, service.weight, |account| {
            account.counter += cost / u128::from(account.weight);
            counter = account.counter;
        });
        if self.order.is_empty() {
            self.round = self.round.max(counter);
        } else {
            self.round += cost / u128::from(self.waiting_weight.max(1));
            self.bound_round();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Time;

    fn place(serial: u64) -> Place {
        Place::new(Time::ZERO, serial)
    }

    fn waiting(tenant: u64, serial: u64) -> Waiting {
        Waiting {
            place: place(serial),
            priority: 0,
            deadline: None,
            tenant: TenantId(tenant),
            weight: 1,
            prompt_tokens: 1,
            output_tokens: 0,
            max_tokens: 1,
            preemptions: 0,
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

    /// Admits the next request, which is `tenant`'s, and serves it.
    fn admit(policy: &mut WeightedFair, tenant: u64, serial: u64, output_tokens: usize) {
        assert_eq!(policy.next(1), [place(serial)]);
        policy.leave(&waiting(tenant, serial));
        serve(policy, tenant, 1, output_tokens);
    }

    #[test]
    fn the_least_served_tenant_is_next_and_weights_divide_what_service_costs() {
        let mut policy = WeightedFair::new();
        policy.enter(&waiting(1, 0));
        policy.enter(&waiting(2, 1));
        policy.enter(&waiting(2, 2));
        serve(&mut policy, 1, 1, 10);
        assert_eq!(policy.next(9), [1, 2].map(place));
        serve(&mut policy, 2, 4, 39);
        assert_eq!(policy.next(1), [place(1)], "39 / 4 < 10");
        serve(&mut policy, 2, 4, 2);
        assert_eq!(policy.next(9), [place(0)], "41 / 4 > 10");
    }

    #[test]
    fn tenants_that_were_served_equally_go_by_their_oldest_request() {
        let mut policy = WeightedFair::new();
        for (tenant, serial) in [(9, 0), (4, 1), (7, 2), (4, 3), (1, 4)] {
            policy.enter(&waiting(tenant, serial));
        }
        for (tenant, serial) in [(9, 0), (4, 1), (7, 2), (4, 3)] {
            assert_eq!(policy.next(1), [place(serial)]);
            policy.leave(&waiting(tenant, serial));
        }
        assert_eq!(policy.next(9), [place(4)]);
    }

    #[test]
    fn a_preempted_request_goes_on_first_whatever_its_tenant_was_served() {
        let mut policy = WeightedFair::new();
        policy.enter(&waiting(1, 0));
        admit(&mut policy, 1, 0, 1000);
        policy.enter(&waiting(2, 1));
        let preempted = Waiting {
            preemptions: 1,
            ..waiting(1, 0)
        };
        policy.enter(&preempted);
        assert_eq!(policy.next(9), [place(0)]);
        policy.leave(&preempted);
        assert_eq!(policy.next(9), [place(1)]);
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
            [place(0)],
            "tenant 2 began where tenant 1 was"
        );
        policy.leave(&waiting(1, 0));
        policy.leave(&waiting(2, 1));
        serve(&mut policy, 1, 1, 1000);
        // While none waited nothing was scarce: all begin alike, in the order of their arrival.
        for (tenant, serial) in [(3, 2), (2, 3), (1, 4)] {
            policy.enter(&waiting(tenant, serial));
        }
        for (tenant, serial) in [(3, 2), (2, 3), (1, 4)] {
            admit(&mut policy, tenant, serial, 0);
        }
    }

    /// Tenant 0 was served 100 tokens before. Of the new tenants that follow, two wait at any time.
    #[test]
    fn new_tenants_without_end_do_not_keep_one_waiting_that_was_served_before() {
        let mut policy = WeightedFair::new();
        policy.enter(&waiting(1, 1));
        policy.enter(&waiting(0, 2));
        serve(&mut policy, 0, 1, 100);
        let mut before = 0;
        for new in 2..100 {
            policy.enter(&waiting(new, 1 + new));
            let next = policy.next(1);
            if next == [place(2)] {
                break;
            }
            before += 1;
            let tenant = match next == [place(1)] {
                true => 1,
                false => new - 1,
            };
            assert_eq!(next, [place(if tenant == 1 { 1 } else { 1 + tenant })]);
            policy.leave(&Waiting {
                place: next[0],
                ..waiting(tenant, 0)
            });
            serve(&mut policy, tenant, 1, 10);
        }
        assert!((10..50).contains(&before), "{before} were served before it");
    }

    #[test]
    fn accounts_of_tenants_that_are_gone_are_bounded() {
        let mut policy = WeightedFair::new();
        policy.enter(&waiting(0, 0));
        for tenant in 1..10_000 {
            policy.enter(&waiting(tenant, tenant));
            policy.leave(&waiting(tenant, tenant));
            serve(&mut policy, tenant, 1, 1 + tenant as usize % 7);
        }
        assert_eq!(policy.accounts.len(), REMEMBERED_TENANTS + 1);
        assert_eq!(policy.gone.len(), REMEMBERED_TENANTS);
        assert_eq!(policy.next(9), [place(0)]);
        // One that was forgotten while it ran is charged like a new one.
        serve(&mut policy, 1, 1, 3);
        assert_eq!(policy.next(9), [place(0)]);
    }
}
