//! One table for each mode and measure: a row per subject, medians and ratios.

use std::time::Duration;

use crate::cell::{MANY_BULK, MANY_PING_PONG, Measure, Mode, Sample};
use crate::contest::Series;
use crate::statistics::{median, range};

pub(super) fn print(results: &[Series<'_>]) {
    for mode in Mode::ALL {
        for measure in Measure::ALL {
            let rows: Vec<&Series<'_>> = results
                .iter()
                .filter(|series| series.cell.subject.mode == mode && series.cell.measure == measure)
                .collect();
            if !rows.is_empty() {
                println!("{}: {}", mode.name(), title(measure));
                let lines = if measure.is_latency() { latencies(&rows) } else { rates(measure, &rows) };
                aligned(&lines);
                complaints(&rows);
                println!();
            }
        }
    }
}

fn title(measure: Measure) -> String {
    match measure {
        Measure::Connections => "new connections per second, 32 at once (more is better)".to_owned(),
        Measure::Exchanges => "the same, each with the messages of a full TLS 1.3 handshake and a request".to_owned(),
        Measure::Bulk => "download on one connection, GB/s (more is better)".to_owned(),
        Measure::BulkMany => format!("download on {MANY_BULK} connections, GB/s (more is better)"),
        Measure::PingPong => "512 bytes to and fro on one connection, microseconds (less is better)".to_owned(),
        Measure::PingPongMany => {
            format!("512 bytes to and fro on {MANY_PING_PONG} connections, microseconds (less is better)")
        }
        Measure::FirstByte => "first byte of a new connection, one at a time, microseconds (less is better)".to_owned(),
    }
}

fn rates(measure: Measure, rows: &[&Series<'_>]) -> Vec<Vec<String>> {
    let (decimals, router_title, machine_title) = if measure.is_bulk() {
        (2, "router CPU ms/GB", "whole machine")
    } else {
        (0, "router CPU us each", "whole machine")
    };
    let mut lines = vec![titles(&[
        "",
        "median",
        "lowest",
        "highest",
        "x direct",
        "x sni-router",
        "x haproxy",
        router_title,
        machine_title,
    ])];
    for row in rows {
        let values = || row.samples.iter().map(|sample| sample.per_second);
        let (lowest, highest) = range(values()).unzip();
        let unit = if measure.is_bulk() { 1e3 } else { 1e6 };
        let cpu = |time: fn(&Sample) -> Option<Duration>| {
            median(row.samples.iter().filter_map(|sample| Some(time(sample)?.as_secs_f64() * unit)))
        };
        lines.push(vec![
            name(row),
            number(median(values()), decimals),
            number(lowest, decimals),
            number(highest, decimals),
            number(ratio(row, find(rows, "direct"), per_second), 2),
            number(ratio(row, find(rows, "sni-router"), per_second), 2),
            number(ratio(row, find(rows, "haproxy"), per_second), 2),
            number(cpu(|sample| sample.router_cpu), 0),
            number(cpu(|sample| sample.machine_cpu), 0),
        ]);
    }
    lines
}

fn latencies(rows: &[&Series<'_>]) -> Vec<Vec<String>> {
    let p50 = |sample: &Sample| sample.latency.map(|latency| microseconds(latency.p50));
    let p99 = |sample: &Sample| sample.latency.map(|latency| microseconds(latency.p99));
    let mut lines = vec![titles(&[
        "",
        "p50",
        "+direct",
        "x direct",
        "x sni-router",
        "p99",
        "+direct",
        "x direct",
        "x sni-router",
        "per second",
        "x direct",
        "x haproxy",
        "router CPU us",
        "whole machine",
    ])];
    let (direct, sni_router, haproxy) = (find(rows, "direct"), find(rows, "sni-router"), find(rows, "haproxy"));
    for row in rows {
        let mut line = vec![name(row)];
        for percentile in [p50 as fn(&Sample) -> Option<f64>, p99] {
            line.push(number(median(row.samples.iter().filter_map(percentile)), 0));
            line.push(number(of_pairs(row, direct, percentile, |own, other| own - other), 0));
            line.push(number(ratio(row, direct, percentile), 2));
            line.push(number(ratio(row, sni_router, percentile), 2));
        }
        line.push(number(median(row.samples.iter().filter_map(per_second)), 0));
        line.push(number(ratio(row, direct, per_second), 2));
        line.push(number(ratio(row, haproxy, per_second), 2));
        for cpu in [|sample: &Sample| sample.router_cpu, |sample: &Sample| sample.machine_cpu] {
            line.push(number(median(row.samples.iter().filter_map(cpu).map(microseconds)), 1));
        }
        lines.push(line);
    }
    lines
}

fn per_second(sample: &Sample) -> Option<f64> {
    Some(sample.per_second)
}

fn ratio(row: &Series<'_>, base: Option<&Series<'_>>, value: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
    of_pairs(row, base, value, |own, other| own / other)
}

/// The median over the rounds of what `compare` says about a round's two values.
fn of_pairs(
    row: &Series<'_>,
    base: Option<&Series<'_>>,
    value: impl Fn(&Sample) -> Option<f64>,
    compare: impl Fn(f64, f64) -> f64,
) -> Option<f64> {
    let pairs = row.samples.iter().zip(&base?.samples);
    median(pairs.filter_map(|(own, other)| Some(compare(value(own)?, value(other)?))))
}

/// The first row whose name begins like this: a program's first variant is its default.
fn find<'a, 's>(rows: &[&'a Series<'s>], name: &str) -> Option<&'a Series<'s>> {
    rows.iter().copied().find(|row| row.cell.subject.name.starts_with(name))
}

fn name(row: &Series<'_>) -> String {
    let mark = if errors(row) > 0 { " !" } else { "" };
    format!("{}{mark}", row.cell.subject.name)
}

fn errors(row: &Series<'_>) -> u64 {
    row.samples.iter().map(|sample| sample.errors).sum()
}

fn complaints(rows: &[&Series<'_>]) {
    for row in rows.iter().filter(|row| errors(row) > 0) {
        let why = row.first_error.as_deref().unwrap_or("unknown");
        println!("  ! {}: {} failed connections, the first one with: {why}", row.cell.subject.name, errors(row));
    }
}

pub(super) fn number(value: Option<f64>, decimals: usize) -> String {
    match value {
        Some(value) if value.is_finite() => grouped(&format!("{value:.decimals$}")),
        _ => "-".to_owned(),
    }
}

/// With a comma between thousands.
fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let (whole, fraction) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut grouped = String::from(sign);
    for (index, digit) in whole.char_indices() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + fraction
}

pub(super) fn titles(titles: &[&str]) -> Vec<String> {
    titles.iter().map(|&title| title.to_owned()).collect()
}

/// The first column to the left, the others to the right.
pub(super) fn aligned(lines: &[Vec<String>]) {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or(0))
        .collect();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (text, &width))| match column {
            0 => format!("{text:<width$}"),
            _ => format!("{text:>width$}"),
        });
        println!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(number(Some(1_234_567.0), 0), "1,234,567");
        assert_eq!(number(Some(-1234.5), 1), "-1,234.5");
        assert_eq!(number(Some(999.0), 0), "999");
        assert_eq!(number(None, 0), "-");
        assert_eq!(number(Some(f64::NAN), 2), "-");
    }
}
