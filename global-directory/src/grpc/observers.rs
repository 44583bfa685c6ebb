//! What observers say of others, for operators.

use crate::controller::canaries::Hearing;
use proto::directory as wire;
use types::Home;

/// Each observer with what it told last.
pub(super) fn observers(hearing: &Hearing<'_>) -> Vec<wire::Observer> {
    let observers = hearing.view.nodes().filter_map(|node| {
        let boot = Home { node: node.node.clone(), incarnation: node.incarnation };
        let report = hearing.leases.observations().of(&boot)?;
        let observed = report.failing_ms.iter().map(|(watched, failing_ms)| wire::Observed {
            node: watched.node.to_string(),
            incarnation: watched.incarnation.get(),
            failing_ms: u32::try_from(*failing_ms).unwrap_or(u32::MAX),
        });
        Some(wire::Observer {
            node: node.node.to_string(),
            reported_ago_ms: hearing.now_ms.saturating_sub(report.heard_ms),
            judges: hearing.judges(node),
            observed: observed.collect(),
        })
    });
    observers.collect()
}

/// The nodes that fail, by what those say who judge.
pub(super) fn failing(hearing: &Hearing<'_>) -> Vec<wire::Failing> {
    let verdicts = hearing.verdicts().into_iter().map(|(node, failing)| wire::Failing {
        node: node.to_string(),
        failing_ms: failing.ms,
        seen_from: failing.seen_from.iter().map(ToString::to_string).collect(),
    });
    verdicts.collect()
}
