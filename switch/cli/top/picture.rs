//! Rates on a screen.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Row, Table};

use super::rates::{Rates, human, percent};

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, rates: &Rates) {
    let lines = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).saturating_add(3);
    let [head, upper, lower] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(6),
        Constraint::Length(lines(rates.workers.len().max(6))),
    ])
    .areas(frame.area());
    let [ports, flows] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(upper);
    let [workers, drops] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(lower);
    let Rates { entries, capacity, .. } = rates;
    let total: f64 = rates.ports.iter().map(|port| port.received_frames).sum();
    let bits: f64 = rates.ports.iter().map(|port| port.received_bits).sum();
    let title = format!(
        "kswitch  {} pps  {} bit/s  {entries} of {capacity} flows  (q to leave)",
        human(total),
        human(bits)
    );
    frame.render_widget(Line::from(title).bold(), head);
    self::ports(frame, ports, rates);
    self::flows(frame, flows, rates);
    self::workers(frame, workers, rates);
    self::drops(frame, drops, rates);
}

fn table<'a>(title: &'a str, heads: &[&'a str], rows: Vec<Row<'a>>) -> Table<'a> {
    let first = Constraint::Min(16);
    let others = heads.iter().skip(1).map(|_| Constraint::Length(8));
    let head = Row::new(heads.iter().map(|head| Cell::from(*head))).bold();
    Table::new(rows, std::iter::once(first).chain(others))
        .header(head)
        .block(Block::bordered().title(title))
}

fn ports(frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
    let rows = rates.ports.iter().map(|port| {
        let numbers = [port.received_frames, port.received_bits, port.sent_frames, port.sent_bits];
        let cells = std::iter::once(port.name.clone()).chain(numbers.map(human));
        let style = if port.busy > 0.0 { Style::new().fg(Color::Red) } else { Style::new() };
        Row::new(cells).style(style)
    });
    let heads = ["PORT", "RX PPS", "RX BPS", "TX PPS", "TX BPS"];
    frame.render_widget(table("ports", &heads, rows.collect()), area);
}

fn flows(frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
    let rows = rates.flows.iter().map(|flow| Row::new([flow.flow.clone(), human(flow.bits)]));
    let table = table("busiest flows, sampled", &["FLOW", "BPS"], rows.collect());
    frame.render_widget(table, area);
}

fn workers(frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
    let rows = rates.workers.iter().enumerate().map(|(number, worker)| {
        Row::new([
            format!("{number} on core {}", worker.core),
            human(worker.frames),
            percent(worker.busy),
            percent(worker.split.receive),
            percent(worker.split.pipeline),
            percent(worker.split.send),
            human(worker.sleeps),
        ])
    });
    let table = table(
        "workers",
        &["WORKER", "PPS", "BUSY", "RECEIVE", "PIPELINE", "SEND", "SLEEPS"],
        rows.collect(),
    );
    frame.render_widget(table, area);
}

fn drops(frame: &mut Frame<'_>, area: Rect, rates: &Rates) {
    let rows = rates.drops.iter().map(|drop| {
        let style = if drop.rate > 0.0 { Style::new().fg(Color::Red) } else { Style::new() };
        Row::new([drop.reason.clone(), human(drop.rate), drop.total.to_string()]).style(style)
    });
    let table = table("drops", &["REASON", "PER S", "TOTAL"], rows.collect());
    frame.render_widget(table, area);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::rates::{DropRate, FlowRate, PortRates, WorkerRates};
    use super::*;

    #[test]
    fn everything_has_its_place() {
        let rates = Rates {
            ports: vec![PortRates {
                name: "default/client".into(),
                received_frames: 1500.0,
                ..PortRates::default()
            }],
            workers: vec![WorkerRates { core: 1, busy: 0.5, ..WorkerRates::default() }],
            drops: vec![DropRate { reason: "no_route".into(), rate: 2.0, total: 40 }],
            flows: vec![FlowRate { flow: "TCP 10.4.0.3:1 -> 10.8.0.80:80".into(), bits: 8e6 }],
            entries: 3,
            capacity: 64,
        };
        let mut terminal = Terminal::new(TestBackend::new(120, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &rates)).unwrap();
        let text = terminal.backend().to_string();
        for part in [
            "1.5k pps",
            "3 of 64 flows",
            "default/client",
            "0 on core 1",
            "50%",
            "no_route",
            "TCP 10.4.0.3:1 -> 10.8.0.80:80",
            "8.0M",
        ] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        // a window too small is no reason to fall over
        let mut tiny = Terminal::new(TestBackend::new(10, 3)).unwrap();
        tiny.draw(|frame| draw(frame, &rates)).unwrap();
    }
}
