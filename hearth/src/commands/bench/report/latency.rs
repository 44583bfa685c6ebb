//! Latencies, as percentiles.

use super::super::load::latencies;
use hdrhistogram::Histogram;
use serde::{Serialize, Serializer, ser::SerializeMap as _};

/// How finely the tail is drawn: so many points for each tenfold nearer to all.
const POINTS_PER_NINE: u32 = 12;
/// The last percentile that is drawn has so many nines.
const NINES: u32 = 5;

/// How long something took.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Latency {
    #[serde(skip)]
    pub(crate) name: String,
    pub(crate) count: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p99_9_ms: f64,
    pub(crate) max_ms: f64,
    /// For a plot: one of so many is slower than so many ms.
    #[serde(skip)]
    pub(crate) curve: Vec<(f64, f64)>,
}

impl Latency {
    /// From a histogram of µs.
    pub(crate) fn of(name: impl Into<String>, us: &Histogram<u64>) -> Self {
        let at = |quantile| us.value_at_quantile(quantile) as f64 / 1e3;
        let one_of = |point: u32| 10_f64.powf(f64::from(point) / f64::from(POINTS_PER_NINE));
        let curve = (0..=POINTS_PER_NINE * NINES).map(one_of);
        let curve = curve.take_while(|one_of| *one_of <= us.len() as f64);
        Self {
            name: name.into(),
            count: us.len(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p99_9_ms: at(0.999),
            max_ms: us.max() as f64 / 1e3,
            curve: curve.map(|one_of| (one_of, at(1.0 - 1.0 / one_of))).collect(),
        }
    }
}

/// A histogram of what is above a bare time, all in µs.
pub(crate) fn above(us: &Histogram<u64>, bare_us: u64) -> Histogram<u64> {
    let mut above = latencies();
    for value in us.iter_recorded() {
        let count = value.count_since_last_iteration();
        above.saturating_record_n(value.value_iterated_to().saturating_sub(bare_us), count);
    }
    above
}

/// Serializes as one object by name.
pub(super) fn as_object<S: Serializer>(latencies: &[Latency], to: S) -> Result<S::Ok, S::Error> {
    let mut object = to.serialize_map(Some(latencies.len()))?;
    for latency in latencies {
        object.serialize_entry(&latency.name.replace([' ', '-'], "_"), latency)?;
    }
    object.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(us: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = latencies();
        us.into_iter().for_each(|us| histogram.saturating_record(us));
        histogram
    }

    #[test]
    fn a_second_in_a_hundred_messages_shows_in_p99_but_not_in_p50() {
        let latency =
            Latency::of("ack", &of((0..1_000).map(|at| if at % 50 == 0 { 1_000_000 } else { 500 })));
        assert!((0.49..0.51).contains(&latency.p50_ms), "{latency:?}");
        assert!((999.0..1_001.0).contains(&latency.p99_ms), "{latency:?}");
        assert_eq!(latency.curve.last().map(|(one_of, _)| one_of.round()), Some(1_000.0));
    }

    #[test]
    fn what_is_above_a_bare_time_is_never_below_zero() {
        let above = above(&of([69_000, 70_000, 72_000]), 70_000);
        assert_eq!((above.min(), above.len()), (0, 3));
        assert!((1_930..=2_070).contains(&above.max()), "to a thousandth of the whole: {}", above.max());
    }

    #[test]
    fn nothing_at_all_has_no_latency() {
        assert_eq!(Latency::of("ack", &latencies()).max_ms, 0.0);
    }
}
