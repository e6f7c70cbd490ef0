//! Waits until no packet that has passed the programs is still on its way to a socket. Knows nothing of flows.

use std::fs;
use std::io;
use std::ops::RangeInclusive;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::raw;

/// Waits until every packet that is being processed now has reached its socket.
///
/// The kernel takes packets with softirqs off, which without PREEMPT_RT nothing preempts: where this thread runs nobody is in the
/// middle of it. So the thread goes from CPU to CPU, which takes as long as any thread waits for its turn. A grace period of RCU
/// tells the same; but on a host that loads programs or makes namespaces it was measured to take four seconds, for which nothing could
/// end the process either.
pub(super) fn wait_for_packets_on_their_way() -> io::Result<()> {
    match visitable() {
        Some(cpus) if visit(&cpus).is_ok() => Ok(()),
        _ => raw::wait_for_grace_period(),
    }
}

/// The CPUs, where going there is worth it.
fn visitable() -> Option<Vec<usize>> {
    // PREEMPT_RT handles softirqs in threads, which others preempt.
    let is_realtime = || fs::read_to_string("/sys/kernel/realtime").is_ok_and(|text| text.trim() == "1");
    let cpus = online(&fs::read_to_string("/sys/devices/system/cpu/online").ok()?)?;
    (cpus.len() <= MOST_VISITED && !is_realtime()).then_some(cpus)
}

/// A list as in `0-3,5` (Documentation/admin-guide/cputopology.rst).
fn online(list: &str) -> Option<Vec<usize>> {
    let number = |text: &str| text.parse().ok().filter(|cpu| *cpu < CpuSet::MAX_CPU);
    let ranges = list.trim().split(',').map(|part| match part.split_once('-') {
        Some((first, last)) => Some(number(first)?..=number(last)?),
        None => number(part).map(|cpu| cpu..=cpu),
    });
    let ranges: Vec<RangeInclusive<usize>> = ranges.collect::<Option<_>>()?;
    Some(ranges.into_iter().flatten().collect())
}

/// Runs on each of them for a moment. Fails where a cpuset keeps this process away from one.
fn visit(cpus: &[usize]) -> io::Result<()> {
    let own = sched_getaffinity(None)?;
    let visited = cpus.iter().try_for_each(|cpu| {
        let mut only = CpuSet::new();
        only.set(*cpu);
        sched_setaffinity(None, &only)
    });
    sched_setaffinity(None, &own)?;
    Ok(visited?)
}

/// Each visit takes another thread's turn there, several hundred times a second where connections come all the time.
const MOST_VISITED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(online("0-1\n"), Some(vec![0, 1]));
        assert_eq!(online("0,2-4,7\n"), Some(vec![0, 2, 3, 4, 7]));
        assert_eq!(online(""), None);
        assert_eq!(online("0-100000"), None);
    }

    #[test]
    fn visiting_leaves_the_thread_where_it_may_run() {
        let before = sched_getaffinity(None).unwrap();
        let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| before.is_set(*cpu)).collect();
        visit(&all).unwrap();
        assert!(sched_getaffinity(None).unwrap() == before);
        // One that no host has.
        assert!(visit(&[all[0], CpuSet::MAX_CPU - 1]).is_err());
        assert!(sched_getaffinity(None).unwrap() == before);
    }

    #[test]
    fn it_returns() {
        wait_for_packets_on_their_way().unwrap();
    }
}
