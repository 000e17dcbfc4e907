//! The live view's picture, fitted to the terminal.

use anyhow::Result;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::Line,
    widgets::{Block, Borders, Paragraph, Row, Table},
};
use wavnet_user::api::model::NatInfo;

use super::{
    live::{Samples, Watched},
    network::Network,
    tables::{self, Content},
};
use crate::lab::{binary, dhcp, host::Vm};

/// What to type in a second terminal.
///
/// # Errors
/// A machine has lost its address.
pub(super) fn hints(network: &Network) -> Result<Vec<String>> {
    let agent = &network.agents[0];
    // Who is root without sudo may not have it.
    let sudo = if std::env::var_os("SUDO_UID").is_some() { "sudo " } else { "" };
    let inside = |ns: &str| format!("{sudo}nsenter --net=/run/netns/{ns}");
    let tenant = &network.tenants[0];
    let (from, to) = (&tenant.vms[0], &tenant.vms[2]);
    let wavnet = binary::usable()?.display().to_string();
    let run_dir = agent.run_dir().display();
    Ok(vec![
        format!("ping      {} ping {}", inside(from.ns.name()), dhcp::address(&to.ns, Vm::NIC)?),
        format!("agent     {sudo}{wavnet} fdb --run-dir {run_dir}     (mesh, status, ports, peers, drops, … --json)"),
        format!("metrics   {} curl -s {}", inside(agent.ns().name()), agent.metrics_url()),
        format!("server    {sudo}{wavnet} rendezvous status --config {}", network.world.server.path("rendezvous.toml")),
        format!("capture   {} tcpdump -nei wan udp", inside(network.routers[0].ns.name())),
    ])
}

/// Lines of a table that are no rows: title and column heads.
const TABLE_FRAME: usize = 2;

/// Draws everything. Where there is too little room, tables show their first rows and say how many more there are.
pub(super) fn draw(frame: &mut Frame<'_>, samples: &Samples, hints: &[String]) {
    let area = frame.area();
    let hints: Vec<Vec<String>> = hints.iter().map(|hint| wrap(hint, usize::from(area.width))).collect();
    let contents = tables::contents(samples);
    let head = heading(samples);
    let wanted = contents.each_ref().map(|content| content.rows.len());
    let room = usize::from(area.height).saturating_sub(head.len() + contents.len() * TABLE_FRAME + 1);
    let (rows, hint_lines) = share(room, wanted, &hints.iter().map(Vec::len).collect::<Vec<_>>());

    let mut heights = vec![head.len()];
    heights.extend(rows.iter().map(|rows| rows + TABLE_FRAME));
    heights.push(hint_lines + 1);
    let heights = heights.into_iter().map(|h| Constraint::Length(h as u16)).chain([Constraint::Fill(1)]);
    let areas = Layout::vertical(heights).split(area);
    frame.render_widget(Paragraph::new(head), areas[0]);
    for ((content, rows), area) in contents.into_iter().zip(rows).zip(&areas[1..5]) {
        frame.render_widget(table(content, rows, *area), *area);
    }
    let mut lines = Vec::new();
    for hint in hints {
        if lines.len() + hint.len() <= hint_lines {
            lines.extend(hint.into_iter().map(Line::from));
        }
    }
    let block = Block::new().borders(Borders::TOP).title(" what to type in a second terminal ");
    let block = block.title(Line::from(" q or Ctrl-C: leave, everything is removed ").right_aligned());
    frame.render_widget(Paragraph::new(lines).block(block), areas[5]);
}

/// Shares out lines: the first hint in full and a row for every table come first, then all get more in turns.
fn share(room: usize, wanted: [usize; 4], hints: &[usize]) -> ([usize; 4], usize) {
    let mut rows = [0; 4];
    let mut shown = hints.first().copied().unwrap_or(0).min(room);
    let mut left = room - shown;
    let mut next_hint = 1;
    loop {
        let before = left;
        for (rows, wanted) in rows.iter_mut().zip(wanted) {
            if left > 0 && *rows < wanted {
                *rows += 1;
                left -= 1;
            }
        }
        // A hint that is cut is of no use: all of its lines or none.
        if let Some(&lines) = hints.get(next_hint)
            && lines <= left
            && rows.iter().zip(wanted).all(|(rows, wanted)| *rows >= wanted.min(2))
        {
            left -= lines;
            shown += lines;
            next_hint += 1;
        }
        if left == before {
            return (rows, shown);
        }
    }
}

/// Breaks a hint into lines, between words where there are any, and indents what follows so that it can be told apart.
fn wrap(text: &str, width: usize) -> Vec<String> {
    const INDENT: &str = "          ";
    let width = width.max(INDENT.len() + 1);
    let mut lines = Vec::new();
    let mut rest = text.to_owned();
    while rest.chars().count() > width {
        let end = rest.char_indices().nth(width).map_or(rest.len(), |(at, _)| at);
        let space = rest[..=end.min(rest.len() - 1)].rfind(' ').filter(|at| *at > INDENT.len());
        let at = space.unwrap_or(end);
        lines.push(rest[..at].trim_end().to_owned());
        rest = format!("{INDENT}{}", rest[at..].trim_start());
    }
    lines.push(rest);
    lines
}

/// A table with as many columns as fit in `area` and its first `shown` rows.
fn table(mut content: Content, shown: usize, area: Rect) -> Table<'static> {
    let width = |content: &Content, column: usize| {
        let cells = content.rows.iter().map(|(cells, _)| cells[column].chars().count());
        cells.chain([content.head[column].len()]).max().unwrap_or(0)
    };
    // The last column is what people can best do without the end of.
    let needed = |content: &Content| -> usize {
        let last = content.head.len() - 1;
        let cut = content.spare.is_empty();
        (0..=last).map(|c| if cut && c == last { content.head[c].len() } else { width(content, c) } + 1).sum()
    };
    for column in content.spare.clone() {
        if needed(&content) <= usize::from(area.width) + 1 {
            break;
        }
        if let Some(at) = content.head.iter().position(|head| *head == column) {
            content.head.remove(at);
            for (cells, _) in &mut content.rows {
                cells.remove(at);
            }
        }
    }
    let columns = content.head.len();
    let widths = (0..columns).map(|c| match width(&content, c) {
        _ if content.spare.is_empty() && c + 1 == columns => Constraint::Fill(1),
        wide => Constraint::Length(u16::try_from(wide).unwrap_or(u16::MAX)),
    });
    let widths: Vec<Constraint> = widths.collect();
    let title = match content.rows.len() {
        0 => format!(" {}: none ", content.title),
        all if all > shown => format!(" {}: … {} more ", content.title, all - shown),
        _ => format!(" {} ", content.title),
    };
    let rows = content.rows.into_iter().take(shown).map(|(cells, style)| Row::new(cells).style(style));
    Table::new(rows, widths)
        .header(Row::new(content.head).style(Style::new().fg(Color::DarkGray)))
        .block(Block::new().borders(Borders::TOP).title(title))
}

fn heading(samples: &Samples) -> Vec<Line<'static>> {
    let count = samples.agents.len();
    let title = format!("wavnet: {count} agents behind NATs, and a kernel vxlan device at {}", samples.kernel);
    let mut lines = vec![Line::styled(title, Style::new().add_modifier(Modifier::BOLD))];
    lines.extend(samples.agents.iter().map(about));
    lines
}

/// An agent in a line; what matters most comes first, the end may be cut.
fn about(agent: &Watched) -> Line<'static> {
    let name = &agent.name;
    if agent.silent {
        return Line::styled(format!("  {name}  agent does not answer"), Style::new().fg(Color::Red));
    }
    let Some(sample) = &agent.now else { return Line::from(format!("  {name}  waiting for the agent …")) };
    let status = &sample.status;
    let address = status.underlay.address.map_or_else(|| "no address".to_owned(), |a| a.to_string());
    let mode = status.underlay.hook_mode.map_or("not attached", |m| m.as_str());
    let metrics = status.metrics.as_ref().map_or_else(|| "no metrics".to_owned(), |at| format!("http://{at}/metrics"));
    let nat = sample.mesh.nat.as_ref().map_or_else(|| "NAT not known yet".to_owned(), behind);
    let (uptime, macs) = (status.uptime_s, status.counts.fdb_entries);
    Line::from(format!("  {name}  {address}  {metrics}  {nat}  {mode}  {macs} MACs  up {uptime} s"))
}

/// What is in front of a host.
fn behind(nat: &NatInfo) -> String {
    let mapped = nat.mapped.map_or_else(String::new, |at| format!(" at {at}"));
    format!("{}{mapped}", nat.kind)
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
