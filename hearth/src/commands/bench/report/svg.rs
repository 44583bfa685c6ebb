//! Charts as SVG: lines and stacked areas over linear or logarithmic axes. Colours are classes of the page.

use super::table::number;
use std::fmt::Write as _;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 28.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
/// Colours of the page; series beyond them begin again.
pub(super) const COLOURS: usize = 8;
/// Ticks of a linear axis, about.
const TICKS: f64 = 5.0;

/// Where values lie on an axis.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    label: String,
    min: f64,
    max: f64,
    is_log: bool,
    ticks: Vec<(f64, String)>,
}

/// A named row of points, left to right.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

impl Axis {
    /// From 0 to a round number at or above `max`.
    pub(super) fn linear(label: &str, max: f64) -> Self {
        let step = round_up(max.max(1e-6) / TICKS);
        // What is a hair above a tick is drawn at it.
        let count = (max / step - 0.05).ceil().max(1.0);
        let ticks = (0..=count as u32).map(|at| f64::from(at) * step);
        let ticks = ticks.map(|value| (value, number(value))).collect();
        Self { label: label.to_owned(), min: 0.0, max: count * step, is_log: false, ticks }
    }

    /// Whole decades around `min..=max`.
    pub(super) fn log(label: &str, min: f64, max: f64) -> Self {
        let first = min.max(1e-3).log10().floor() as i32;
        let last = (max.max(1e-3).log10().ceil() as i32).max(first + 1);
        let ticks = (first..=last).map(|power| 10_f64.powi(power));
        let name = |value: f64| if value < 0.1 { format!("{value}") } else { number(value) };
        let ticks: Vec<_> = ticks.map(|value| (value, name(value))).collect();
        let (min, max) = (10_f64.powi(first), 10_f64.powi(last));
        Self { label: label.to_owned(), min, max, is_log: true, ticks }
    }

    /// Other names for the ticks.
    pub(super) fn named(mut self, name: impl Fn(f64) -> String) -> Self {
        self.ticks.iter_mut().for_each(|(value, label)| *label = name(*value));
        self
    }

    /// From 0 at the axis' beginning to 1 at its end.
    fn share(&self, value: f64) -> f64 {
        let of = |value: f64| if self.is_log { value.max(self.min).log10() } else { value };
        ((of(value) - of(self.min)) / (of(self.max) - of(self.min))).clamp(0.0, 1.0)
    }

    fn x(&self, value: f64) -> f64 {
        LEFT + self.share(value) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.share(value) * (HEIGHT - TOP - BOTTOM)
    }
}

/// 1, 2 or 5 times a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|times| times * power)
        .into_iter()
        .find(|round| *round >= value * 0.999)
        .unwrap_or(value)
}

/// A line for each series.
pub(super) fn lines(x: &Axis, y: &Axis, series: &[Series]) -> String {
    let mut marks = String::new();
    for (at, series) in series.iter().enumerate() {
        let points = path(series.points.iter().map(|(px, py)| (x.x(*px), y.y(*py))));
        let colour = at % COLOURS;
        let _ = writeln!(marks, r#"<path class="line c{colour}" d="{points}"/>"#);
    }
    framed(x, y, &marks)
}

/// An area for each series, one on top of the other. All have the same x values.
pub(super) fn stacked(x: &Axis, y: &Axis, series: &[Series]) -> String {
    let mut marks = String::new();
    let mut base = vec![0.0; series.first().map_or(0, |series| series.points.len())];
    for (at, series) in series.iter().enumerate() {
        let lower: Vec<_> =
            series.points.iter().zip(&base).map(|((px, _), base)| (x.x(*px), y.y(*base))).collect();
        base.iter_mut().zip(&series.points).for_each(|(base, (_, value))| *base += value);
        let upper = series.points.iter().zip(&base).map(|((px, _), top)| (x.x(*px), y.y(*top)));
        let outline = path(upper.chain(lower.into_iter().rev()));
        let colour = at % COLOURS;
        let _ = writeln!(marks, r#"<path class="area c{colour}" d="{outline}Z"/>"#);
    }
    framed(x, y, &marks)
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (at, (x, y)) in points.enumerate() {
        let verb = if at == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{verb}{x:.1} {y:.1}");
    }
    path
}

fn framed(x: &Axis, y: &Axis, marks: &str) -> String {
    let mut svg = format!(r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">"#);
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for (value, label) in &y.ticks {
        let at = y.y(*value);
        let _ = write!(svg, r#"<path class="grid" d="M{LEFT} {at:.1}H{right}"/>"#);
        let (left, down) = (LEFT - 8.0, at + 4.0);
        let _ = writeln!(svg, r#"<text x="{left}" y="{down:.1}" text-anchor="end">{label}</text>"#);
    }
    for (value, label) in &x.ticks {
        let (at, down) = (x.x(*value), bottom + 18.0);
        let _ = write!(svg, r#"<path class="grid" d="M{at:.1} {TOP}V{bottom}"/>"#);
        let _ = writeln!(svg, r#"<text x="{at:.1}" y="{down}" text-anchor="middle">{label}</text>"#);
    }
    let (middle, foot, side) = ((LEFT + right) / 2.0, HEIGHT - 6.0, (TOP + bottom) / 2.0);
    let _ =
        write!(svg, r#"<text class="axis" x="{middle}" y="{foot}" text-anchor="middle">{}</text>"#, x.label);
    let _ = write!(
        svg,
        r#"<text class="axis" transform="translate(13 {side}) rotate(-90)" text-anchor="middle">{}</text>"#,
        y.label
    );
    svg.push_str(marks);
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_round_and_hold_every_value() {
        let axis = Axis::linear("s", 23.0);
        assert_eq!(axis.max, 25.0);
        assert_eq!((axis.share(0.0), axis.share(25.0), axis.share(99.0)), (0.0, 1.0, 1.0));
        let axis = Axis::log("ms", 0.3, 120.0);
        assert_eq!((axis.min, axis.max, axis.ticks.len()), (0.1, 1_000.0, 5));
        assert!((axis.share(10.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn areas_lie_on_one_another() {
        let (x, y) = (Axis::linear("s", 1.0), Axis::linear("cores", 2.0));
        let one = |name: &str| Series { name: name.to_owned(), points: vec![(0.0, 1.0), (1.0, 1.0)] };
        let svg = stacked(&x, &y, &[one("a"), one("b")]);
        let top = format!("M{:.1} {:.1}", x.x(0.0), y.y(2.0));
        assert!(svg.contains(&top), "{svg}");
        assert_eq!(svg.matches("class=\"area").count(), 2);
    }

    #[test]
    fn nothing_draws_an_empty_frame() {
        let svg = lines(&Axis::linear("s", 0.0), &Axis::log("ms", 0.0, 0.0), &[]);
        assert!(svg.starts_with("<svg") && !svg.contains("NaN"), "{svg}");
    }
}
