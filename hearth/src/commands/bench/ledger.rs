//! The books of one chat: what was sent, acked and received, and whether that adds up.

/// Sequence numbers of one sender, dense from 0.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    acked: Vec<bool>,
    missing: u64,
    doubled: u64,
    reordered: u64,
    highest: Option<u64>,
    seen: Vec<bool>,
}

fn mark(set: &mut Vec<bool>, number: u64) -> bool {
    let at = number as usize;
    if set.len() <= at {
        set.resize(at + 1, false);
    }
    !std::mem::replace(&mut set[at], true)
}

fn is_marked(set: &[bool], number: u64) -> bool {
    set.get(number as usize).copied().unwrap_or(false)
}

impl Ledger {
    /// A message was acked.
    pub(super) fn ack(&mut self, number: u64) {
        if mark(&mut self.acked, number) && !is_marked(&self.seen, number) {
            self.missing += 1;
        }
    }

    /// A message arrived.
    pub(super) fn receive(&mut self, number: u64) {
        if !mark(&mut self.seen, number) {
            self.doubled += 1;
            return;
        }
        if is_marked(&self.acked, number) {
            self.missing -= 1;
        }
        if self.highest.is_some_and(|highest| number < highest) {
            self.reordered += 1;
        }
        self.highest = self.highest.max(Some(number));
    }

    /// Acked messages that have not arrived.
    pub(super) const fn missing(&self) -> u64 {
        self.missing
    }

    /// Messages that arrived more than once.
    pub(super) const fn doubled(&self) -> u64 {
        self.doubled
    }

    /// Messages that arrived behind a later one.
    pub(super) const fn reordered(&self) -> u64 {
        self.reordered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_doubling_and_disorder_are_each_seen() {
        let mut ledger = Ledger::default();
        (0..5).for_each(|number| ledger.ack(number));
        for number in [0, 2, 1, 2, 4] {
            ledger.receive(number);
        }
        assert_eq!((ledger.missing(), ledger.doubled(), ledger.reordered()), (1, 1, 1));
    }
}
