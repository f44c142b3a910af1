//! Memory that clients fill by what they send or leave unread, bounded in bytes.
//!
//! A [`ByteBudget`] is shared by many holders (requests, calls), and each holder has a [`ByteAccount`]. A fixed share
//! for each would have to be tiny, and one bound for all lets the greediest holder shut out the others. So the share
//! follows what is free: while a fraction `f` of the budget is free, a holder may have `f⁴` of the budget. (A share of
//! what is free is the "dynamic threshold" of A. Choudhury and E. Hahne, 1998; the power makes up for holders that
//! come one after the other and give nothing back.) A lone holder gets 27 % of the budget; a thousand greedy ones,
//! one after the other, leave 7 % of it free, and the next holder some 20 millionths: KiBs of a budget of 128 MiB.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The solution of `x = (1 - x)⁴`: the fraction of a budget that a lone holder can have.
const LONE_SHARE: f64 = 0.2755;

/// Bytes that all holders share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ByteBudget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    total: u64,
    used: AtomicU64,
}

/// What one holder has of a budget. Cheap to clone: the clones are one holder.
#[derive(Debug, Clone)]
pub struct ByteAccount {
    budget: ByteBudget,
    own: Arc<AtomicU64>,
}

/// Bytes that are taken until this is dropped.
#[derive(Debug)]
pub struct ByteCharge {
    account: ByteAccount,
    bytes: u64,
}

/// The budget has not enough left for what a holder asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{asked} more bytes beside the {own} that it has; {free} of {total} bytes are free, and the share of one holder shrinks with them"
)]
pub struct BudgetSpent {
    /// Bytes asked for.
    pub asked: u64,
    /// Bytes the holder had.
    pub own: u64,
    /// Bytes that were free.
    pub free: u64,
    /// Bytes of the whole budget.
    pub total: u64,
}

impl ByteBudget {
    /// A budget of `total` bytes, all of them free.
    #[must_use]
    pub fn new(total: u64) -> Self {
        let used = AtomicU64::new(0);
        Self(Arc::new(Shared { total, used }))
    }

    /// Bytes of the whole budget.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.total
    }

    /// Bytes that are taken now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The most that a holder can have when there is no other.
    #[must_use]
    pub fn largest(&self) -> u64 {
        (self.0.total as f64 * LONE_SHARE) as u64
    }

    /// A new holder, which has nothing yet.
    #[must_use]
    pub fn account(&self) -> ByteAccount {
        ByteAccount {
            budget: self.clone(),
            own: Arc::default(),
        }
    }
}

impl ByteAccount {
    /// Takes `bytes` until the charge is dropped.
    ///
    /// # Errors
    ///
    /// [`BudgetSpent`] when the holder would have more than its share of what would be free; nothing is taken then.
    pub fn charge(&self, bytes: u64) -> Result<ByteCharge, BudgetSpent> {
        let mut charge = ByteCharge {
            account: self.clone(),
            bytes: 0,
        };
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// The budget it is an account of.
    #[must_use]
    pub fn budget(&self) -> &ByteBudget {
        &self.budget
    }

    /// Bytes the holder has now.
    #[must_use]
    pub fn own(&self) -> u64 {
        self.own.load(Ordering::Relaxed)
    }
}

impl ByteCharge {
    /// Bytes taken by this charge.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes `more` bytes.
    ///
    /// # Errors
    ///
    /// As [`ByteAccount::charge`]; what was taken before stays taken.
    pub fn grow(&mut self, more: u64) -> Result<(), BudgetSpent> {
        let shared = &self.account.budget.0;
        let own = self.account.own.fetch_add(more, Ordering::Relaxed);
        let fits = |used: u64| {
            let used = used.checked_add(more)?;
            let free = shared.total.checked_sub(used)?;
            let held = own.checked_add(more)?;
            (held <= share(free, shared.total)).then_some(used)
        };
        match shared
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
        {
            Ok(_) => {
                self.bytes += more;
                Ok(())
            }
            Err(used) => {
                self.account.own.fetch_sub(more, Ordering::Relaxed);
                Err(BudgetSpent {
                    asked: more,
                    own,
                    free: shared.total.saturating_sub(used),
                    total: shared.total,
                })
            }
        }
    }

    /// Cuts off a charge of `bytes`, at most all of this one, which is released by itself.
    #[must_use]
    pub fn split(&mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self {
            account: self.account.clone(),
            bytes,
        }
    }
}

/// Bytes that one holder may have while `free` are free.
fn share(free: u64, total: u64) -> u64 {
    let fraction = free as f64 / total.max(1) as f64;
    (free as f64 * fraction.powi(3)) as u64
}

impl Drop for ByteCharge {
    fn drop(&mut self) {
        self.account.own.fetch_sub(self.bytes, Ordering::Relaxed);
        let used = &self.account.budget.0.used;
        used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_holder_has_a_good_quarter_and_no_more() {
        let budget = ByteBudget::new(1000);
        let account = budget.account();
        let mut charge = account.charge(200).unwrap();
        charge.grow(75).unwrap();
        assert_eq!((budget.used(), budget.largest()), (275, 275));
        let refused = charge.grow(1).unwrap_err();
        let expected = BudgetSpent {
            asked: 1,
            own: 275,
            free: 725,
            total: 1000,
        };
        assert_eq!(refused, expected);
        assert!(
            account.clone().charge(1).is_err(),
            "a clone is no new holder"
        );
        let taken = (budget.used(), account.own(), charge.bytes());
        assert_eq!(taken, (275, 275, 275));
        drop(charge);
        assert_eq!((budget.used(), account.own()), (0, 0));
    }

    /// One after the other, each as much as it gets: what is worst for those that come later.
    #[test]
    fn greedy_holders_leave_something_for_a_newcomer() {
        let budget = ByteBudget::new(128 << 20);
        let mut charges = Vec::new();
        for _ in 0..1000 {
            let mut charge = budget.account().charge(0).unwrap();
            let mut step = budget.total();
            while step > 0 {
                step = if charge.grow(step).is_ok() {
                    step
                } else {
                    step / 2
                };
            }
            assert!(charge.bytes() > 1 << 10);
            charges.push(charge);
        }
        assert!(budget.account().charge(2 << 10).is_ok());
        drop(charges);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_charge_is_released_in_parts() {
        let budget = ByteBudget::new(1000);
        let account = budget.account();
        let mut charge = account.charge(100).unwrap();
        let first = charge.split(30);
        drop(charge);
        assert_eq!((budget.used(), account.own()), (30, 30));
        let mut first = first;
        let all = first.split(u64::MAX);
        drop(first);
        assert_eq!(budget.used(), 30);
        drop(all);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn numbers_beyond_every_budget_are_refused() {
        let budget = ByteBudget::new(u64::MAX);
        let account = budget.account();
        let _some = account.charge(1).unwrap();
        assert!(account.charge(u64::MAX).is_err());
        assert!(ByteBudget::new(0).account().charge(1).is_err());
        assert!(ByteBudget::new(0).account().charge(0).is_ok());
    }
}
