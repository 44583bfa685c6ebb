//! Back-pressure: when the in-sync set itself falls behind, its home slows its writers, rather than let the
//! messages that a failover would undo grow without bound.
//!
//! ```text
//!             the set lags longer than the limit        twice the limit, or too much at risk
//!   none ───────────────────────────────────► slow ─────────────────────────────────────► full
//!    ▲   acks at `home` leave at once          │ they leave late, or at `replicated`       │ new content
//!    └─────────────────────────────────────────┴───────────────────────────────────────────┘ is refused
//! ```
//!
//! A member that can leave has left before, and one that is lost or whose node is dead throttles nobody. What
//! is acked at `replicated` is not at risk, and is neither slowed nor refused.

use super::lag::Lag;
use types::Lsn;

/// How long an ack at `home` waits while the set lags, if it is not `replicated` before, in ms.
const DELAY_MS: u64 = 500;
/// Content at risk in one partition above which no more is taken while the set lags.
pub(super) const AT_RISK_MAX: u64 = 16_384;
/// How long content that was refused should wait, in ms.
pub(super) const RETRY_MS: u64 = 1_000;

/// How hard a home pushes back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Not at all.
    #[default]
    None,
    /// Acks at `home` are late.
    Slow,
    /// Content to be acked at `home` is refused.
    Full,
}

impl Pressure {
    /// What a set that lags for so long asks for.
    pub(super) const fn of(lag_ms: u64, limit_ms: u64, at_risk: u64) -> Self {
        if lag_ms <= limit_ms {
            Self::None
        } else if lag_ms > limit_ms.saturating_mul(2) || at_risk >= AT_RISK_MAX {
            Self::Full
        } else {
            Self::Slow
        }
    }

    /// Up to where acks at `home` may leave now.
    pub(super) fn paced(self, durable: Lsn, lag: &Lag, now_ms: u64) -> Lsn {
        match self {
            Self::None => durable,
            Self::Slow | Self::Full => lag.durable_at(now_ms.saturating_sub(DELAY_MS)).min(durable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_with_the_lag_and_with_what_is_at_risk() {
        let of = |lag_ms, at_risk| Pressure::of(lag_ms, 5_000, at_risk);
        assert_eq!(of(5_000, u64::MAX), Pressure::None, "a bound on what is at risk is no bound on bursts");
        assert_eq!(of(5_001, 10), Pressure::Slow);
        assert_eq!(of(5_001, AT_RISK_MAX), Pressure::Full);
        assert_eq!(of(10_001, 0), Pressure::Full);
    }
}
