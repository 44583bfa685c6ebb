//! The course of a run, in slices of time, and as a picture.

use crate::history::{History, Kind};
use std::fmt::Write as _;

/// The shortest slice, and how many there are at most: a long run has longer ones, and its picture is no larger.
const SLICE_US_MIN: u64 = 250_000;
const SLICES_MAX: u64 = 900;
const WIDTH: f64 = 1_040.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const RATES_TOP: f64 = 40.0;
const RATES_HEIGHT: f64 = 210.0;
const LATENCY_TOP: f64 = 300.0;
const LATENCY_HEIGHT: f64 = 130.0;
const HEIGHT: f64 = 470.0;
/// Latencies are drawn from 1 ms to 100 s.
const DECADES: f64 = 5.0;
/// Lines of fault names above the picture, and how many are told; more are only shown on pointing at them.
const LABEL_LINES: usize = 3;
const LABELS_MAX: usize = 15;

/// Writes and their latencies over time, with faults and recoveries.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    regions: Vec<String>,
    /// First acks of each region's devices, by slice.
    acks: Vec<Vec<u32>>,
    /// (median, longest) time to the first ack of what was acked in a slice, in µs.
    latency_us: Vec<Option<(u64, u64)>>,
    /// From, until, what; in s.
    faults: Vec<(f64, f64, String)>,
    /// Planned moves: from, until; in s.
    moves: Vec<(f64, f64)>,
    /// When the last partition of a fault had recovered, in s.
    recovered: Vec<f64>,
    seconds: f64,
    slice_us: u64,
}

impl Timeline {
    /// Of a history.
    pub fn of(history: &History) -> Self {
        let regions: Vec<String> = history.names().regions().iter().map(ToString::to_string).collect();
        let end_us = history
            .events()
            .iter()
            .find(|event| matches!(event.kind, Kind::Healed))
            .or(history.events().last())
            .map_or(0, |event| event.at_us);
        let slice_us = end_us.div_ceil(SLICES_MAX).next_multiple_of(SLICE_US_MIN).max(SLICE_US_MIN);
        let slices = (end_us / slice_us + 1) as usize;
        let mut timeline = Self {
            acks: vec![vec![0; slices]; regions.len()],
            latency_us: vec![None; slices],
            seconds: end_us as f64 / 1e6,
            slice_us,
            regions,
            ..Self::default()
        };
        timeline.fill(history, slices);
        let mut last: std::collections::BTreeMap<_, f64> = std::collections::BTreeMap::new();
        for recovery in crate::check::recoveries(history) {
            if let Some(us) = recovery.first_ack_us {
                let at = (recovery.began_us + us) as f64 / 1e6;
                let known = last.entry(recovery.fault).or_default();
                *known = known.max(at);
            }
        }
        timeline.recovered = last.into_values().collect();
        timeline
    }

    fn fill(&mut self, history: &History, slices: usize) {
        let mut sent_us: Vec<Option<u64>> = vec![None; history.names().messages().len()];
        let mut took: Vec<Vec<u64>> = vec![Vec::new(); slices];
        let mut open = std::collections::BTreeMap::new();
        let mut moving = std::collections::BTreeMap::new();
        for event in history.events() {
            let slice = ((event.at_us / self.slice_us) as usize).min(slices - 1);
            match &event.kind {
                Kind::Invoke { message, .. } => sent_us[message.index()] = Some(event.at_us),
                Kind::Ok { message, .. } => {
                    if let Some(sent) = sent_us[message.index()].take() {
                        let device = history.names().message(*message).device;
                        self.acks[history.names().device(device).region.index()][slice] += 1;
                        took[slice].push(event.at_us - sent);
                    }
                }
                Kind::FaultBegan { fault, what, .. } => {
                    open.insert(*fault, self.faults.len());
                    self.faults.push((event.at_us as f64 / 1e6, self.seconds, what.clone()));
                }
                Kind::MoveBegan { moving: number, .. } => {
                    moving.insert(*number, self.moves.len());
                    self.moves.push((event.at_us as f64 / 1e6, self.seconds));
                }
                Kind::MoveEnded { moving: number, .. } => {
                    if let Some(number) = moving.remove(number) {
                        self.moves[number].1 = event.at_us as f64 / 1e6;
                    }
                }
                Kind::FaultEnded { fault } => {
                    if let Some(number) = open.remove(fault) {
                        self.faults[number].1 = event.at_us as f64 / 1e6;
                    }
                }
                _ => {}
            }
        }
        for (slice, mut took) in took.into_iter().enumerate() {
            took.sort_unstable();
            self.latency_us[slice] = took.last().map(|longest| (took[took.len() / 2], *longest));
        }
    }

    /// As SVG; colours are classes of the page.
    pub fn svg(&self) -> String {
        let mut svg = format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="timeline">"#);
        self.draw_moves(&mut svg);
        self.draw_faults(&mut svg);
        self.draw_rates(&mut svg);
        self.draw_latency(&mut svg);
        for at in &self.recovered {
            let x = self.x(*at);
            let bottom = LATENCY_TOP + LATENCY_HEIGHT;
            let _ = write!(
                svg,
                r#"<path class="recovered" d="M{x:.1} {RATES_TOP}V{bottom}"><title>writes again at {at:.2} s</title></path>"#
            );
        }
        svg.push_str("</svg>");
        svg
    }

    /// The regions, in the order of their colours.
    pub fn regions(&self) -> &[String] {
        &self.regions
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.seconds.max(1e-3) * (WIDTH - LEFT - RIGHT)
    }

    /// Those that touch are one band.
    fn draw_moves(&self, svg: &mut String) {
        let mut bands: Vec<(f64, f64, usize)> = Vec::new();
        for (from, until) in &self.moves {
            match bands.last_mut() {
                Some(last) if self.x(*from) <= self.x(last.1) + 1.0 => {
                    last.1 = last.1.max(*until);
                    last.2 += 1;
                }
                _ => bands.push((*from, *until, 1)),
            }
        }
        for (from, until, count) in bands {
            let (x, height) = (self.x(from), LATENCY_TOP + LATENCY_HEIGHT - RATES_TOP);
            let width = (self.x(until) - x).max(1.0);
            let _ = writeln!(
                svg,
                r#"<rect class="moved" x="{x:.1}" y="{RATES_TOP}" width="{width:.1}" height="{height}"><title>{count} planned moves: {from:.1} s to {until:.1} s</title></rect>"#
            );
        }
    }

    fn draw_faults(&self, svg: &mut String) {
        for (number, (from, until, what)) in self.faults.iter().enumerate() {
            let (x, bottom) = (self.x(*from), LATENCY_TOP + LATENCY_HEIGHT);
            let width = (self.x(*until) - x).max(1.5);
            let height = bottom - RATES_TOP;
            let what = super::html::escaped(what);
            let _ = write!(
                svg,
                r#"<rect class="fault" x="{x:.1}" y="{RATES_TOP}" width="{width:.1}" height="{height}"><title>{what}: {from:.1} s to {until:.1} s</title></rect>"#
            );
            if self.faults.len() > LABELS_MAX {
                continue;
            }
            let y = 11.0 + (number % LABEL_LINES) as f64 * 12.0;
            let anchor = if x > WIDTH * 0.75 { "end" } else { "start" };
            let _ = writeln!(
                svg,
                r#"<text class="what" x="{x:.1}" y="{y}" text-anchor="{anchor}">{what}</text>"#
            );
        }
    }

    fn draw_rates(&self, svg: &mut String) {
        let per_s = 1e6 / self.slice_us as f64;
        let most = self.acks.iter().flatten().max().map_or(1.0, |most| f64::from(*most) * per_s).max(1.0);
        // Four parts of a round number each.
        let round = 10_f64.powf((most / 4.0).log10().floor());
        let most = (most / 4.0 / round).ceil() * round * 4.0;
        let bottom = RATES_TOP + RATES_HEIGHT;
        for part in 0..=4 {
            let value = most * f64::from(part) / 4.0;
            grid(svg, bottom - RATES_HEIGHT * f64::from(part) / 4.0, &format!("{value:.0}"));
        }
        let step = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_200.0];
        let step = step.into_iter().find(|step| self.seconds / step <= 14.0).unwrap_or(3_600.0);
        let mut at = 0.0;
        while at <= self.seconds {
            let x = self.x(at);
            let foot = LATENCY_TOP + LATENCY_HEIGHT + 16.0;
            let _ = writeln!(svg, r#"<text x="{x:.1}" y="{foot}" text-anchor="middle">{at:.0} s</text>"#);
            at += step;
        }
        for (colour, acks) in self.acks.iter().enumerate() {
            let mut path = String::new();
            for (slice, count) in acks.iter().enumerate() {
                let x = self.x((slice as f64 + 0.5) * self.slice_us as f64 / 1e6).min(WIDTH - RIGHT);
                let y = bottom - f64::from(*count) * per_s / most * RATES_HEIGHT;
                let _ = write!(path, "{}{x:.1} {y:.1}", if slice == 0 { 'M' } else { 'L' });
            }
            let _ = writeln!(svg, r#"<path class="line c{colour}" d="{path}"/>"#);
        }
        let _ = writeln!(
            svg,
            r#"<text class="axis" x="{LEFT}" y="{}">writes acked per second, by the writer's region</text>"#,
            bottom + 20.0
        );
    }

    fn draw_latency(&self, svg: &mut String) {
        let bottom = LATENCY_TOP + LATENCY_HEIGHT;
        let y = |us: u64| bottom - ((us as f64 / 1e3).max(1.0).log10() / DECADES).min(1.0) * LATENCY_HEIGHT;
        for (decade, label) in ["1 ms", "10 ms", "100 ms", "1 s", "10 s", "100 s"].iter().enumerate() {
            grid(svg, bottom - decade as f64 / DECADES * LATENCY_HEIGHT, label);
        }
        for (slice, latency) in self.latency_us.iter().enumerate() {
            let Some((median, longest)) = latency else { continue };
            let x = self.x((slice as f64 + 0.5) * self.slice_us as f64 / 1e6).min(WIDTH - RIGHT);
            let _ = write!(svg, r#"<path class="span" d="M{x:.1} {:.1}V{:.1}"/>"#, y(*median), y(*longest));
            let _ = writeln!(svg, r#"<circle class="median" cx="{x:.1}" cy="{:.1}" r="1.6"/>"#, y(*median));
        }
        let _ = writeln!(
            svg,
            r#"<text class="axis" x="{LEFT}" y="{}">time to the first ack: median, and up to the longest</text>"#,
            LATENCY_TOP - 8.0
        );
    }
}

fn grid(svg: &mut String, y: f64, label: &str) {
    let (right, left, down) = (WIDTH - RIGHT, LEFT - 6.0, y + 4.0);
    let _ = write!(svg, r#"<path class="grid" d="M{LEFT} {y:.1}H{right}"/>"#);
    let _ = writeln!(svg, r#"<text x="{left}" y="{down:.1}" text-anchor="end">{label}</text>"#);
}
