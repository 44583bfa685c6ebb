//! The report for people.

use super::report::{NodeReport, PartitionReport, Report};
use crate::{row, tables};
use std::fmt::Display;
use types::{NodeId, PartitionState, RegionStatus};

/// Events of the directory that are shown; `--json` has them all.
const EVENTS_SHOWN: usize = 10;

/// Tables, one behind the other.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    for section in [
        directory(report),
        regions(report),
        nodes(report),
        observers(report),
        partitions(report),
        replication(report),
    ] {
        text.push_str(&section);
        text.push('\n');
    }
    text.push_str(&format!("messages at risk (acked home, not yet replicated): {}", report.at_risk_messages));
    if report.partitions_unheard > 0 {
        text.push_str(&format!(
            ", and unknown for {} partitions whose home does not answer",
            report.partitions_unheard
        ));
    }
    text.push('\n');
    if report.slowed + report.refusing > 0 {
        text.push_str(&format!(
            "BACK-PRESSURE: the in-sync set lags by up to {} ms; writers of {} partitions are slowed, of {} refused\n",
            report.isr_lag_ms_max, report.slowed, report.refusing
        ));
    }
    for alone in &report.alone {
        text.push_str(&format!(
            "ONE REGION IS ENOUGH IN {} until {} (UTC), by an operator's word: what is `replicated` there can be lost\n",
            alone.region,
            time_of_day(alone.until_ms)
        ));
    }
    if report.unsettled_archives > 0 {
        text.push_str(&format!(
            "still to be salvaged: {} records in {} archives (hearth admin salvage)\n",
            report.unsettled_records, report.unsettled_archives
        ));
    }
    let events = &report.directory.events;
    if !events.is_empty() {
        text.push_str("\nlatest events of the directory (UTC)\n");
    }
    for event in &events[events.len().saturating_sub(EVENTS_SHOWN)..] {
        let who = if event.who.is_empty() { String::new() } else { format!("{}: ", event.who) };
        text.push_str(&format!("  {}  {who}{}\n", time_of_day(event.at_ms), event.what));
    }
    if let Some(list) = &report.partition_list {
        text.push('\n');
        text.push_str(&partition_list(list));
    }
    text
}

fn directory(report: &Report) -> String {
    let directory = &report.directory;
    let failover = match (directory.automatic_failover, directory.automatic_failover_note.as_str()) {
        (true, "") => "automatic failover on".to_owned(),
        (true, note) => format!("automatic failover on: {note}"),
        (false, note) => format!("AUTOMATIC FAILOVER OFF: {note}"),
    };
    format!(
        "directory {}  placement {}  pins {}  lease {} ms  {failover}\n",
        directory.address, directory.placement_version, directory.pins, directory.lease_ttl_ms
    )
}

fn regions(report: &Report) -> String {
    let mut rows = vec![row!["REGION", "STATUS", "NODES", "HOMES", "PREFER IT"]];
    for region in &report.regions {
        let status = match region.status {
            RegionStatus::Active => "active",
            RegionStatus::Draining => "DRAINING",
            RegionStatus::Down => "DOWN",
        };
        rows.push(row![region.region, status, region.nodes, region.homes, region.prefer_it]);
    }
    tables::render(&rows)
}

fn nodes(report: &Report) -> String {
    let mut rows = vec![row![
        "NODE",
        "REGION",
        "ADDRESS",
        "INC",
        "STATE",
        "RENEWED",
        "LEASE LEFT",
        "HOMES",
        "SESSIONS",
        "AT RISK"
    ]];
    for node in &report.nodes {
        let said = node.says.as_ref();
        rows.push(row![
            node.node,
            node.region,
            node.address,
            node.incarnation,
            state(node),
            or_dash(node.renewed_ago_ms.map(|ms| format!("{ms} ms ago"))),
            or_dash(said.map(|says| format!("{} ms", says.lease_left_ms))),
            node.homes,
            or_dash(said.map(|says| says.sessions)),
            or_dash(said.map(|says| says.at_risk_messages)),
        ]);
    }
    let mut text = tables::render(&rows);
    for node in &report.nodes {
        if let Some(why) = &node.unreachable {
            text.push_str(&format!("{} does not answer: {why}\n", node.node));
        }
    }
    text
}

fn observers(report: &Report) -> String {
    let mut rows = vec![row!["OBSERVER", "TOLD", "JUDGES", "CANARIES ACKED BY", "NOT ACKED BY"]];
    for observer in &report.observers {
        let failing = observer.failing.iter().map(|(node, ms)| format!("{node} for {ms} ms"));
        rows.push(row![
            observer.observer,
            format!("{} ms ago", observer.reported_ago_ms),
            if observer.judges { "yes" } else { "NO" },
            listed(observer.acked.clone()),
            listed(failing.collect()),
        ]);
    }
    let mut text = tables::render(&rows);
    for failing in &report.failing {
        text.push_str(&format!(
            "NO CANARY IS ACKED BY {} for {} ms, as seen from {}\n",
            failing.node,
            failing.failing_ms,
            failing.seen_from.join(", ")
        ));
    }
    text
}

fn listed(names: Vec<String>) -> String {
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

fn state(node: &NodeReport) -> &'static str {
    match (&node.says, node.live) {
        (None, _) => "UNREACHABLE",
        (Some(_), false) => "BUMPED",
        (Some(says), true) if says.ready => "ready",
        (Some(_), true) => "not ready",
    }
}

fn partitions(report: &Report) -> String {
    let counts = &report.partitions;
    let header = row![
        "PARTITIONS",
        "HOMED",
        "MOVING",
        "VACANT",
        "FAILING OVER",
        "WAITING",
        "FULLY IN SYNC",
        "BELOW 2 REGIONS",
        "LOST REPLICA",
        "EPOCHS"
    ];
    let values = row![
        counts.total,
        counts.homed,
        counts.moving,
        counts.vacant,
        counts.failing_over,
        counts.waiting,
        counts.fully_in_sync,
        counts.below_two_regions,
        counts.with_lost_replicas,
        format!("{}..{}", counts.epoch_min, counts.epoch_max),
    ];
    tables::render(&[header, values])
}

fn replication(report: &Report) -> String {
    let mut rows = vec![row!["REPLICATION TO", "FOLLOWS", "IN SYNC", "LAG RECORDS", "LAG MS"]];
    for region in &report.replication {
        rows.push(row![
            region.region,
            region.follows,
            region.in_sync,
            region.lag_records_max,
            region.lag_ms_max
        ]);
    }
    tables::render(&rows)
}

fn partition_list(list: &[PartitionReport]) -> String {
    let mut rows = vec![row![
        "PARTITION",
        "STATE",
        "PREFERS",
        "HOME",
        "EPOCH",
        "ISR",
        "LOST",
        "LAST LSN",
        "WATERMARK",
        "AT RISK"
    ]];
    for partition in list {
        rows.push(row![
            partition.partition,
            match partition.state {
                PartitionState::Vacant => "vacant",
                PartitionState::Homed => "homed",
                PartitionState::Draining => "moving",
                PartitionState::FailingOver => "FAILING OVER",
            },
            partition.preferred,
            or_dash(partition.home.as_ref()),
            partition.epoch,
            names(&partition.isr),
            names(&partition.lost),
            or_dash(partition.last_lsn),
            or_dash(partition.watermark),
            or_dash(partition.at_risk_messages),
        ]);
    }
    tables::render(&rows)
}

/// The day and the time, in UTC.
pub(super) fn date_and_time(ms_since_1970: u64) -> String {
    // Days are counted from 1 March of year 0, so that a leap day is the last of its year; 400 years are 146,097 days.
    let days = ms_since_1970 / 86_400_000 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {}", time_of_day(ms_since_1970))
}

pub(super) fn time_of_day(ms_since_1970: u64) -> String {
    let seconds = ms_since_1970 / 1_000 % 86_400;
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}", seconds % 60, ms_since_1970 % 1_000)
}

fn names(nodes: &[NodeId]) -> String {
    if nodes.is_empty() {
        return "-".to_owned();
    }
    nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(",")
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::admin::report::{report, tests::seen};

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_251_199, "2024-02-29"),
            (1_709_251_200, "2024-03-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date_and_time(seconds * 1_000).split(' ').next(), Some(day));
        }
        assert_eq!(date_and_time(1_709_251_199_250), "2024-02-29 23:59:59.250");
    }

    #[test]
    fn what_is_wrong_stands_out() {
        let text = render(&report(&seen(), true));
        for part in [
            "AUTOMATIC FAILOVER OFF: one voter",
            "eu-west  DOWN",
            "UNREACHABLE",
            "b-1 does not answer: it is dead",
            "b-1 for 2100 ms",
            "NO CANARY IS ACKED BY b-1 for 2000 ms, as seen from us-east, ap-south",
            "at risk (acked home, not yet replicated): 7, and unknown for 1 partitions",
            "FAILING OVER",
            "by up to 5100 ms; writers of 1 partitions are slowed, of 0 refused",
            "still to be salvaged: 30 records in 1 archives",
            "00:00:02.005  it was born",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }
}
