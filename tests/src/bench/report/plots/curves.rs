//! Curves over something, each point with a whisker from the smallest run to the largest.

use super::{colour, short, ticks};
use crate::bench::report::{
    Point, Report,
    svg::{Anchor, GRID, INK, Svg},
};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 130.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 65.0;

/// A contender's curve.
type Curve<'a> = (&'a str, &'a [Point]);

/// Rate of small frames against the number of MACs that they go to.
pub(super) fn macs(report: &Report) -> Option<String> {
    const RATE: f64 = 1e6;
    let curves = curves(report, "scale_macs_100k", "MACs")?;
    let (first, last) = ends(&curves, |point| point.at)?;
    let (_, most) = ends(&curves, |point| point.max / RATE)?;
    let marks = ticks(most, 5.0);
    let top = *marks.last()?;
    let plot = Plot {
        x: Box::new(move |at| (at / first).log10() / (last / first).log10()),
        y: Box::new(move |value| value / RATE / top),
    };
    let mut svg = Svg::new(WIDTH, HEIGHT);
    svg.title((MARGIN, 28.0), "Small frames, VM to VM, against the number of MACs that they go to");
    for mark in marks {
        plot.horizontal(&mut svg, mark * RATE, &short(mark));
    }
    for at in curves.first()?.1.iter().map(|point| point.at) {
        plot.vertical(&mut svg, at, &thousands(at));
    }
    plot.axes(&mut svg, "MACs", "million frames per second");
    plot.curves(&mut svg, &curves);
    Some(svg.finish())
}

/// Round trips by polling: how long the given share of them took at the most.
pub(super) fn latency(report: &Report) -> Option<String> {
    round_trips(report, "rtt_p50", "sockets polled")
}

/// Round trips with sockets that block.
pub(super) fn latency_blocking(report: &Report) -> Option<String> {
    round_trips(report, "rtt_blocking_p50", "sockets that block")
}

fn round_trips(report: &Report, case: &str, how: &str) -> Option<String> {
    const MICRO: f64 = 1e3;
    let curves = curves(report, case, "percentile")?;
    let (_, last) = ends(&curves, |point| nines(point.at))?;
    let (least, _) = ends(&curves, |point| point.min)?;
    let (_, most) = ends(&curves, |point| point.max)?;
    let marks: Vec<f64> =
        (0..8).flat_map(|decade| [1.0, 2.0, 5.0].map(|part| part * 10f64.powi(decade) * MICRO)).collect();
    let low = marks.iter().copied().filter(|mark| *mark <= least).fold(MICRO, f64::max);
    let high = marks.iter().copied().find(|mark| *mark >= most)?;
    let plot = Plot {
        x: Box::new(move |at| nines(at) / last),
        y: Box::new(move |value| (value / low).log10() / (high / low).log10()),
    };
    let mut svg = Svg::new(WIDTH, HEIGHT);
    svg.title((MARGIN, 28.0), &format!("Round trip of a UDP request and its response, VM to VM, {how}"));
    for mark in marks.into_iter().filter(|mark| (low..=high).contains(mark)) {
        plot.horizontal(&mut svg, mark, &short(mark / MICRO));
    }
    for at in [0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9] {
        plot.vertical(&mut svg, at, &format!("{at} %"));
    }
    plot.axes(&mut svg, "percentile of round trips", "µs (logarithmic)");
    plot.curves(&mut svg, &curves);
    Some(svg.finish())
}

/// Where a title begins.
const MARGIN: f64 = 20.0;

/// Maps values to shares of the area, from the lower left.
struct Plot {
    x: Box<dyn Fn(f64) -> f64>,
    y: Box<dyn Fn(f64) -> f64>,
}

impl Plot {
    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.column(x), self.row(y))
    }

    fn column(&self, x: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (self.x)(x)
    }

    fn row(&self, y: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (self.y)(y)
    }

    fn horizontal(&self, svg: &mut Svg, value: f64, label: &str) {
        let y = self.row(value);
        svg.line(&[(LEFT, y), (WIDTH - RIGHT, y)], 1.0, GRID);
        svg.text((LEFT - 8.0, y + 4.5), Anchor::End, label);
    }

    fn vertical(&self, svg: &mut Svg, value: f64, label: &str) {
        let x = self.column(value);
        svg.line(&[(x, TOP), (x, HEIGHT - BOTTOM)], 1.0, GRID);
        svg.text((x, HEIGHT - BOTTOM + 19.0), Anchor::Middle, label);
    }

    fn axes(&self, svg: &mut Svg, across: &str, up: &str) {
        let corner = (LEFT, HEIGHT - BOTTOM);
        svg.line(&[(LEFT, TOP), corner, (WIDTH - RIGHT, HEIGHT - BOTTOM)], 1.0, INK);
        svg.text(((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 16.0), Anchor::Middle, across);
        svg.upward_text((24.0, (TOP + HEIGHT - BOTTOM) / 2.0), up);
    }

    fn curves(&self, svg: &mut Svg, curves: &[Curve<'_>]) {
        for (contender, points) in curves {
            let colour = colour(contender);
            let line: Vec<_> = points.iter().map(|point| self.at(point.at, point.median)).collect();
            for (point, (x, y)) in points.iter().zip(&line) {
                svg.line(&[(*x, self.row(point.min)), (*x, self.row(point.max))], 1.0, colour);
                svg.dot((*x, *y), colour);
            }
            svg.line(&line, 2.0, colour);
        }
        self.names(svg, curves);
    }

    /// Names beside the curves' ends, moved apart where they would overlap.
    fn names(&self, svg: &mut Svg, curves: &[Curve<'_>]) {
        const LINE: f64 = 17.0;
        let end = |points: &[Point]| points.last().map(|point| self.row(point.median));
        let mut ends: Vec<_> = curves.iter().filter_map(|(name, points)| Some((end(points)?, *name))).collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut free = TOP - LINE;
        for (y, name) in ends {
            let y = y.max(free + LINE);
            free = y;
            svg.bar((WIDTH - RIGHT + 12.0, y - 5.0), 10.0, 10.0, colour(name));
            svg.text((WIDTH - RIGHT + 27.0, y + 4.5), Anchor::Start, name);
        }
    }
}

/// The curves of a case over something; `None` if there are none.
fn curves<'a>(report: &'a Report, case: &str, over: &str) -> Option<Vec<Curve<'a>>> {
    let rows = report.rows.iter().filter(|row| row.case == case);
    let curves: Vec<_> = rows
        .filter_map(|row| Some((row.contender.as_str(), row.curve.as_ref().filter(|curve| curve.over == over)?)))
        .filter(|(_, curve)| curve.points.len() > 1)
        .map(|(contender, curve)| (contender, &curve.points[..]))
        .collect();
    (!curves.is_empty()).then_some(curves)
}

/// The least and the most of something over all points.
fn ends(curves: &[Curve<'_>], of: impl Fn(&Point) -> f64) -> Option<(f64, f64)> {
    let values = || curves.iter().flat_map(|(_, points)| points.iter().map(&of));
    Some((values().reduce(f64::min)?, values().reduce(f64::max)?))
}

/// How many nines a percentile has: 90 is one, 99 are two.
fn nines(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}

/// 100000 as 100,000.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
