//! Processor time of the whole machine: what moving bytes costs wherever it is spent, in interrupts too.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

/// What all processors together have spent on anything but waiting, since the start (/proc/stat, proc(5)).
pub(crate) fn busy_time() -> Result<Duration> {
    let hertz = sysconf(SysconfVar::CLK_TCK)?.and_then(|hertz| u64::try_from(hertz).ok()).context("CLK_TCK")?;
    let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    let ticks = busy_ticks(&text).context("the first line of /proc/stat")?;
    Ok(Duration::from_millis(ticks * 1000 / hertz))
}

/// user, nice, system, (idle, iowait,) irq, softirq; what the hypervisor stole and guests used is no work of ours.
fn busy_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let mut sum = 0;
    for position in 0..7 {
        let ticks: u64 = fields.next()?.parse().ok()?;
        if position != 3 && position != 4 {
            sum += ticks;
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_no_work() {
        assert_eq!(busy_ticks("cpu  1 2 4 1000 1000 8 16 99 99 99\ncpu0 7 7\n"), Some(31));
        assert_eq!(busy_ticks("intr 1 2"), None);
    }
}
