//! How often somebody may register, log in, look others up and write: per address, per name that is tried, per user, per
//! device.

use crate::{
    Config,
    rates::{Pace, Rates},
};
use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr};
use types::{Code, DeviceId, Name, Refusal, UserId};

/// Those of whom it is counted at a time.
const COUNTED_MAX: usize = 131_072;
const MINUTE_MS: u64 = 60_000;

/// So many at once, and so many a minute after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// A minute, after that.
    pub per_min: u32,
}

/// How often accounts are made and used, at one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AccountRates {
    /// Registrations from one address.
    pub registrations: Rate,
    /// Log-ins from one address.
    pub logins: Rate,
    /// Log-ins that try one name, and passwords that one user shows: what a guesser has.
    pub guesses: Rate,
    /// Refresh tokens shown from one address.
    pub refreshes: Rate,
    /// Look-ups by one user.
    pub look_ups: Rate,
    /// Questions for what is next, by one user: those that wait as well, since each may be answered at once.
    pub syncs: Rate,
    /// Changes of names by one user: each lets a name rest.
    pub renamings: Rate,
    /// Messages and changes of chats that one device writes. Not counted in development mode, nor are the next.
    pub device_writes: Rate,
    /// Those that one user writes, on all devices.
    pub user_writes: Rate,
}

impl Default for AccountRates {
    fn default() -> Self {
        Self {
            registrations: Rate { burst: 32, per_min: 6 },
            logins: Rate { burst: 64, per_min: 60 },
            guesses: Rate { burst: 10, per_min: 6 },
            refreshes: Rate { burst: 512, per_min: 1_200 },
            look_ups: Rate { burst: 60, per_min: 60 },
            syncs: Rate { burst: 120, per_min: 600 },
            renamings: Rate { burst: 5, per_min: 1 },
            device_writes: Rate { burst: 2_000, per_min: 6_000 },
            user_writes: Rate { burst: 4_000, per_min: 12_000 },
        }
    }
}

impl AccountRates {
    /// Those that are 0, by name.
    pub(crate) fn zeros(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("account-rates.registrations", self.registrations),
            ("account-rates.logins", self.logins),
            ("account-rates.guesses", self.guesses),
            ("account-rates.refreshes", self.refreshes),
            ("account-rates.look-ups", self.look_ups),
            ("account-rates.syncs", self.syncs),
            ("account-rates.renamings", self.renamings),
            ("account-rates.device-writes", self.device_writes),
            ("account-rates.user-writes", self.user_writes),
        ];
        all.into_iter().filter(|(_, rate)| rate.burst == 0 || rate.per_min == 0).map(|(name, _)| name)
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Register,
    LogIn,
    Guess,
    Refresh,
    LookUp,
    Sync,
    Rename,
    Write,
}

/// An address, as far as it tells one subscriber from another: of IPv6 the first half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Address(IpAddr);

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let mut octets = address.octets();
                octets[8..].fill(0);
                IpAddr::V6(octets.into())
            }
        })
    }
}

/// Of whom it is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    Address(Address),
    Name(Name),
    User(UserId),
    Device(UserId, DeviceId),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(Address(address)) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
            Self::User(user) => user.fmt(f),
            Self::Device(user, device) => write!(f, "{user} on device {device}"),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Limits {
    rates: AccountRates,
    counted: Rates<(Kind, Who)>,
}

impl Limits {
    pub(super) fn new(config: &Config) -> Self {
        Self { rates: config.account_rates, counted: Rates::new(COUNTED_MAX) }
    }

    /// Counts one.
    ///
    /// # Errors
    /// `rate_limited`, with when there is room again.
    pub(super) fn take(&mut self, kind: Kind, who: &Who, now_ms: u64) -> Result<(), Refusal> {
        let (rate, what) = match kind {
            Kind::Register => (self.rates.registrations, "registrations"),
            Kind::LogIn => (self.rates.logins, "log-ins"),
            Kind::Guess => (self.rates.guesses, "passwords"),
            Kind::Refresh => (self.rates.refreshes, "refresh tokens"),
            Kind::LookUp => (self.rates.look_ups, "look-ups"),
            Kind::Sync => (self.rates.syncs, "questions for what is next"),
            Kind::Rename => (self.rates.renamings, "changes of names"),
            Kind::Write if matches!(who, Who::Device(..)) => (self.rates.device_writes, "writes"),
            Kind::Write => (self.rates.user_writes, "writes"),
        };
        let pace = Pace { burst: rate.burst, every_ms: MINUTE_MS / u64::from(rate.per_min.max(1)) };
        self.counted.take(&(kind, who.clone()), pace, now_ms).map_err(|retry_ms| {
            metrics::counter!("hearth_accounts_rate_limited_total", "what" => what).increment(1);
            let message = format!("too many {what} of {who}: {} a minute are allowed", rate.per_min);
            Refusal::new(Code::RateLimited, message).retry_after_ms(retry_ms)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::from(text.parse::<IpAddr>().expect("an address"))
    }

    #[test]
    fn one_subscriber_has_one_address() {
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1:2"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
    }

    #[test]
    fn each_kind_is_counted_for_itself() {
        let rates = AccountRates { registrations: Rate { burst: 2, per_min: 6 }, ..AccountRates::default() };
        let mut limits = Limits { rates, counted: Rates::new(8) };
        let who = Who::Address(address("192.0.2.1"));
        assert_eq!(limits.take(Kind::Register, &who, 0), Ok(()));
        assert_eq!(limits.take(Kind::Register, &who, 0), Ok(()));
        let refusal = limits.take(Kind::Register, &who, 0).expect_err("refused");
        assert_eq!((refusal.code, refusal.retry_after_ms), (Code::RateLimited, Some(10_000)));
        assert_eq!(limits.take(Kind::LogIn, &who, 0), Ok(()));
        assert_eq!(limits.take(Kind::Register, &who, 10_000), Ok(()));
    }
}
