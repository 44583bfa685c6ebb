//! Figures: a stable key for programs, a label and a unit for people.

use serde::{Serializer, ser::SerializeMap as _};

/// What a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// In JSON; its end says the unit.
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) unit: &'static str,
}

/// A figure of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) kind: Kind,
    pub(crate) value: f64,
}

macro_rules! figures {
    ($($name:ident = $key:literal, $label:literal, $unit:literal;)*) => {
        $(pub(crate) const $name: Kind = Kind { key: $key, label: $label, unit: $unit };)*
        #[cfg(test)]
        pub(crate) const ALL: &[Kind] = &[$($name),*];
    };
}

figures! {
    ACCEPTED = "accepted_per_s", "accepted", "/s";
    DELIVERED = "delivered_per_s", "delivered", "/s";
    SERVER_CPU = "server_cpu_us_per_message", "server CPU per message", "µs";
    SERVER_USER_CPU = "server_user_cpu_us_per_message", "  of it user", "µs";
    SERVER_SYSTEM_CPU = "server_system_cpu_us_per_message", "  of it system", "µs";
    SERVER_CPU_PER_DELIVERY = "server_cpu_us_per_delivery", "server CPU per delivery", "µs";
    GENERATOR_CPU = "generator_cpu_us_per_message", "generator's CPU per message", "µs";
    SYNCS = "syncs_per_s", "fsyncs of partition logs", "/s";
    DISK_BYTES = "disk_bytes_per_body_byte", "bytes to disk per byte of message", "";
    REGION_BYTES = "region_bytes_per_message", "bytes between regions per message", "B";
    SWITCHES = "server_context_switches_per_message", "context switches per message", "";
    ROUND_TRIP = "round_trip_ms", "bare round trip of the link", "ms";
    CONNECTIONS = "connections", "connections", "";
    CHATS = "chats", "chats", "";
    RSS_PER_CONNECTION = "rss_kib_per_connection", "RSS per connection", "KiB";
    RSS_IN_ALL_PER_CONNECTION = "rss_in_all_kib_per_connection", "whole RSS per connection", "KiB";
    RSS_EMPTY = "rss_empty_mib", "RSS before anything", "MiB";
    RSS_CHATS = "rss_with_chats_mib", "RSS with the chats, nobody connected", "MiB";
    RSS_CONNECTED = "rss_connected_mib", "RSS with all connected", "MiB";
    OPENED = "opened_per_s", "chats opened", "/s";
    RESUMED = "resumed_after_s", "all resumed after", "s";
    IDLE_CPU = "idle_server_cpu_percent", "server CPU while idle", "% of a core";
    MESSAGES = "messages", "messages in the chat", "";
    WRITTEN = "written_per_s", "written", "/s";
    PAGES = "pages_per_s", "pages", "/s";
    PAGES_SHORT = "pages_per_s_at_a_hundredth", "pages, chat a hundredth as long", "/s";
    CPU_PER_PAGE = "server_cpu_us_per_page", "server CPU per page", "µs";
    RECORDS = "records", "records behind", "";
    CAUGHT_UP_AFTER = "caught_up_after_s", "caught up after", "s";
    READY_AFTER = "ready_after_s", "the node was ready after", "s";
    CAUGHT_UP = "caught_up_records_per_s", "records copied", "/s";
    CPU_PER_RECORD = "server_cpu_us_per_record", "server CPU per record", "µs";
    LINK_BYTES = "region_bytes_per_record", "bytes between regions per record", "B";
}

/// Serializes as one object, in the order of the report.
pub(super) fn as_object<S: Serializer>(figures: &[Figure], to: S) -> Result<S::Ok, S::Error> {
    let mut object = to.serialize_map(Some(figures.len()))?;
    for figure in figures {
        object.serialize_entry(figure.kind.key, &rounded(figure.value))?;
    }
    object.end()
}

/// To six significant digits, which is more than anything here is worth.
pub(super) fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10_f64.powi(5 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_key_is_its_own_and_says_its_unit() {
        let keys: BTreeSet<_> = ALL.iter().map(|kind| kind.key).collect();
        assert_eq!(keys.len(), ALL.len());
        for kind in ALL {
            let ending = match kind.unit {
                "µs" => Some("_us_per"),
                "/s" => Some("_per_s"),
                "KiB" => Some("_kib"),
                "MiB" => Some("_mib"),
                _ => None,
            };
            assert!(ending.is_none_or(|ending| kind.key.contains(ending)), "{}", kind.key);
        }
    }

    #[test]
    fn figures_are_rounded_to_what_they_are_worth() {
        assert_eq!(rounded(24_195.123_456), 24_195.1);
        assert_eq!(rounded(0.001_234_567_8), 0.001_234_57);
        assert_eq!(rounded(f64::NAN), 0.0);
    }
}
