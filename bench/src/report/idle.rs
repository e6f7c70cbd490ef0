//! The table of memory.

use super::table::{aligned, number, titles};
use crate::idle::Idle;

pub(super) fn print(rows: &[Idle<'_>], connections: u32) {
    println!("memory for each of {connections} idle connections, kB (less is better)");
    let mut lines =
        vec![titles(&["", "router's processes", "sockets over direct", "together", "eBPF maps, MB in all"])];
    let direct = rows.iter().find(|row| row.router.is_none()).map(|row| row.kernel);
    for row in rows {
        let kernel = direct.map(|direct| row.kernel - direct);
        let together = kernel.zip(row.router).map(|(kernel, router)| kernel + router);
        lines.push(vec![
            row.subject.name.to_owned(),
            number(row.router.map(kilobytes), 2),
            number(kernel.map(kilobytes), 2),
            number(together.map(kilobytes), 2),
            number(Some(row.maps as f64 / 1e6), 1),
        ]);
    }
    aligned(&lines);
    println!();
}

fn kilobytes(bytes: f64) -> f64 {
    bytes / 1e3
}
