//! Bars: one panel for each case, one bar for each contender, whiskers from the smallest run to the largest.

use super::{colour, short, ticks};
use crate::bench::report::{
    Report, Row,
    svg::{Anchor, GRID, INK, Svg},
};

/// A case and its panel's title.
type Panel = (&'static str, &'static str);

/// Small frames.
pub(super) fn packet_rates(report: &Report) -> Option<String> {
    const PANELS: [Panel; 8] = [
        ("small_frames", "VM to VM, default ports"),
        ("small_frames_packet_rate", "VM to VM, packet-rate ports"),
        ("encap", "VM to wire, default ports"),
        ("encap_packet_rate", "VM to wire, packet-rate ports"),
        ("decap", "Wire to VM"),
        ("udp_to_tap", "Wire to VM on a tap"),
        ("udp_from_tap", "VM on a tap to wire"),
        ("local", "VM to VM on one hypervisor"),
    ];
    panels(report, &PANELS, "Small frames (64 B of UDP payload), million frames per second", 1e6)
}

/// Bulk TCP.
pub(super) fn tcp(report: &Report) -> Option<String> {
    const PANELS: [Panel; 5] = [
        ("tcp_1", "1 stream"),
        ("tcp_4", "4 streams"),
        ("tcp_8_receive", "8 streams to one VM"),
        ("tcp_1_tap", "1 stream, receiver on a tap"),
        ("tcp_1_from_tap", "1 stream, sender on a tap"),
    ];
    panels(report, &PANELS, "Bulk TCP between VMs, Gbit per second", 1e9)
}

const WIDTH: f64 = 900.0;
const COLUMNS: usize = 2;
const MARGIN: f64 = 20.0;
const HEAD: f64 = 50.0;
/// Room for contenders' names.
const NAMES: f64 = 140.0;
/// Room for values behind the bars.
const VALUES: f64 = 60.0;
const ROW: f64 = 24.0;
const BAR: f64 = 15.0;
/// A panel's title, and its axis.
const ABOVE: f64 = 24.0;
const BELOW: f64 = 40.0;

fn panels(report: &Report, panels: &[Panel], title: &str, scale: f64) -> Option<String> {
    let filled: Vec<_> = panels
        .iter()
        .map(|(case, title)| (*title, report.rows.iter().filter(|row| row.case == *case).collect::<Vec<_>>()))
        .filter(|(_, rows)| !rows.is_empty())
        .collect();
    if filled.is_empty() {
        return None;
    }
    let height = |pair: &[(&str, Vec<&Row>)]| {
        let rows = pair.iter().map(|(_, rows)| rows.len()).max().unwrap_or_default();
        ABOVE + rows as f64 * ROW + BELOW
    };
    let total: f64 = filled.chunks(COLUMNS).map(height).sum();
    let mut svg = Svg::new(WIDTH, HEAD + total);
    svg.title((MARGIN, 28.0), title);
    let mut top = HEAD;
    for pair in filled.chunks(COLUMNS) {
        for (column, (title, rows)) in pair.iter().enumerate() {
            let left = MARGIN + column as f64 * (WIDTH - MARGIN) / COLUMNS as f64;
            panel(&mut svg, (left, top), title, rows, scale);
        }
        top += height(pair);
    }
    Some(svg.finish())
}

fn panel(svg: &mut Svg, (left, top): (f64, f64), title: &str, rows: &[&Row], scale: f64) {
    let zero = left + NAMES;
    let width = (WIDTH - MARGIN) / COLUMNS as f64 - MARGIN - NAMES - VALUES;
    let max = rows.iter().map(|row| row.max / scale).fold(0.0, f64::max);
    let ticks = ticks(max, 4.0);
    let end = ticks.last().copied().unwrap_or(max);
    let x = |value: f64| zero + width * value / end;
    svg.title((zero, top + 12.0), title);
    let (first, last) = (top + ABOVE, top + ABOVE + rows.len() as f64 * ROW);
    for tick in ticks {
        let at = x(tick);
        svg.line(&[(at, first - 4.0), (at, last)], 1.0, if tick == 0.0 { INK } else { GRID });
        svg.text((at, last + 16.0), Anchor::Middle, &short(tick));
    }
    for (n, row) in rows.iter().enumerate() {
        let middle = first + (n as f64 + 0.5) * ROW;
        let [median, min, max] = [row.median, row.min, row.max].map(|value| x(value / scale));
        let name =
            row.variant.as_ref().map_or(row.contender.clone(), |variant| format!("{}, {variant}", row.contender));
        svg.text((zero - 8.0, middle + 4.5), Anchor::End, &name);
        svg.bar((zero, middle - BAR / 2.0), median - zero, BAR, colour(&row.contender));
        svg.line(&[(min, middle), (max, middle)], 1.5, INK);
        for end in [min, max] {
            svg.line(&[(end, middle - 4.0), (end, middle + 4.0)], 1.5, INK);
        }
        let value = format!("{:.2}", row.median / scale);
        svg.text((max.max(median) + 7.0, middle + 4.5), Anchor::Start, &value);
    }
}
