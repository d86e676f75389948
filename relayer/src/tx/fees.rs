//! Fees, in wei per gas.

/// What is offered per gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fees {
    /// Most that is paid.
    pub max_fee: u128,
    /// Tip on top of the base fee.
    pub priority_fee: u128,
}

/// Nodes ask for 10 % more than the transaction that is replaced (geth `PriceBump`); an eighth leaves room for rounding.
const BUMP_DIVISOR: u128 = 8;

impl Fees {
    /// The base fee, of fees as a node recommends them: twice the base fee and the tip.
    #[must_use]
    pub fn base(self) -> u128 {
        self.max_fee.saturating_sub(self.priority_fee) / 2
    }

    /// No more than `cap`.
    #[must_use]
    pub fn capped(self, cap: u128) -> Fees {
        let max_fee = self.max_fee.min(cap);
        Fees { max_fee, priority_fee: self.priority_fee.min(max_fee) }
    }

    /// Fees that replace `self`: both parts an eighth more, or today's if these are higher. `None` if that would be above
    /// `cap`.
    #[must_use]
    pub fn bumped(self, today: Fees, cap: u128) -> Option<Fees> {
        let bump = |fee: u128| fee.saturating_add((fee / BUMP_DIVISOR).max(1)).saturating_add(fee % BUMP_DIVISOR);
        let fees = Fees {
            max_fee: bump(self.max_fee).max(today.max_fee),
            priority_fee: bump(self.priority_fee).max(today.priority_fee),
        };
        let fees = Fees { max_fee: fees.max_fee.max(fees.priority_fee), ..fees };
        (fees.max_fee <= cap).then_some(fees)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_bump_always_suffices_for_a_replacement(
            old_max in 1u128..1_000_000_000_000, old_tip in 0u128..1_000_000_000_000,
            new_max in 0u128..1_000_000_000_000, new_tip in 0u128..1_000_000_000_000,
        ) {
            let old = Fees { max_fee: old_max.max(old_tip), priority_fee: old_tip };
            let today = Fees { max_fee: new_max.max(new_tip), priority_fee: new_tip };
            let Some(fees) = old.bumped(today, u128::MAX) else { return Err(TestCaseError::fail("there is no cap")) };
            // geth: new * 100 >= old * 110, and strictly more, in both parts.
            prop_assert!(fees.max_fee * 100 >= old.max_fee * 110 && fees.max_fee > old.max_fee);
            prop_assert!(fees.priority_fee * 100 >= old.priority_fee * 110 && fees.priority_fee > old.priority_fee);
            prop_assert!(fees.priority_fee <= fees.max_fee);
            prop_assert!(fees.max_fee >= today.max_fee && fees.priority_fee >= today.priority_fee);
        }

        #[test]
        fn the_cap_holds(max in 1u128..1_000, tip in 0u128..1_000, cap in 1u128..1_000) {
            let fees = Fees { max_fee: max.max(tip), priority_fee: tip };
            prop_assert!(fees.capped(cap).max_fee <= cap && fees.capped(cap).priority_fee <= fees.capped(cap).max_fee);
            prop_assert!(fees.bumped(fees, cap).is_none_or(|f| f.max_fee <= cap));
        }
    }
}
