//! What processes cost: CPU time and memory, as the kernel counts them.

use std::io::ErrorKind;
use std::time::Duration;

use anyhow::Context;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// What Linux counts the times of `/proc/PID/stat` in, for whoever reads them.
const TICK: Duration = Duration::from_millis(10);

/// CPU time that all threads of a process have used: exactly, until one of them ends; from then on
/// to two ticks.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    // The one leaves out what threads used that have ended, the other part of a tick.
    Ok(of_threads(pid)?.max(of_process(pid)?))
}

/// The exact time of the threads that there are.
fn of_threads(pid: u32) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let times = match std::fs::read_to_string(thread?.path().join("schedstat")) {
            Ok(times) => times,
            Err(error) if has_ended(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        let running = times.split_whitespace().next().context("empty schedstat")?;
        nanoseconds += running.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Whether a thread ended between being listed and being asked.
fn has_ended(error: &std::io::Error) -> bool {
    let no_such_process = Some(Errno::SRCH.raw_os_error());
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == no_such_process
}

/// The time of all threads, those that have ended included, in whole ticks.
fn of_process(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name of the program may hold anything; behind it, `utime` is the 12th field.
    let (_, fields) = stat.rsplit_once(')').context("no name in /proc/PID/stat")?;
    let mut times = fields.split_whitespace().skip(11);
    let mut ticks = 0;
    for name in ["utime", "stime"] {
        ticks += times.next().with_context(|| format!("no {name}"))?.parse::<u32>()?;
    }
    Ok(TICK * ticks)
}

/// The same of several processes.
pub fn cpu_times(pids: &[u32]) -> anyhow::Result<Duration> {
    pids.iter().map(|pid| cpu_time(*pid)).sum()
}

/// CPU time of this process.
pub fn own_cpu_time() -> anyhow::Result<Duration> {
    cpu_time(std::process::id())
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// At the moment.
    pub now: u64,
    /// The most since the process began, or since [`forget_peak`].
    pub peak: u64,
}

/// Resident memory of several processes together.
pub fn memory(pids: &[u32]) -> anyhow::Result<Memory> {
    let mut all = Memory::default();
    for pid in pids {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        all.now += kilobytes(&status, "VmRSS:").context("no VmRSS in /proc")? * 1024;
        all.peak += kilobytes(&status, "VmHWM:").context("no VmHWM in /proc")? * 1024;
    }
    Ok(all)
}

/// Lets [`Memory::peak`] begin anew.
pub fn forget_peak(pids: &[u32]) -> anyhow::Result<()> {
    for pid in pids {
        std::fs::write(format!("/proc/{pid}/clear_refs"), "5")
            .with_context(|| format!("cannot reset the peak of process {pid}"))?;
    }
    Ok(())
}

fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// Lets this process and its children have as many descriptors as may be, at least `wanted`.
pub fn raise_file_limit(wanted: u64) -> anyhow::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < wanted) {
        // Only root may; what comes after says whether it was enough.
        limit.maximum = Some(wanted);
    }
    limit.current = limit.maximum;
    if setrlimit(Resource::Nofile, limit).is_err() {
        let mut allowed = getrlimit(Resource::Nofile);
        allowed.current = allowed.maximum;
        setrlimit(Resource::Nofile, allowed)?;
    }
    let got = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    anyhow::ensure!(got >= wanted, "{wanted} open files are needed and {got} allowed: `ulimit -n`");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something() {
        let pids = [std::process::id()];
        forget_peak(&pids).unwrap();
        let memory = memory(&pids).unwrap();
        assert!(memory.now > 0 && memory.peak >= memory.now / 2, "{memory:?}");
        assert!(own_cpu_time().unwrap() > Duration::ZERO);
    }

    #[test]
    fn what_a_thread_used_counts_when_it_has_ended() {
        const WORK: Duration = Duration::from_millis(200);
        let before = own_cpu_time().unwrap();
        let worker = std::thread::spawn(|| {
            let own = || {
                let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
                times.split_whitespace().next().unwrap().parse().map(Duration::from_nanos).unwrap()
            };
            while own() < WORK {}
        });
        worker.join().unwrap();
        let used = own_cpu_time().unwrap().saturating_sub(before);
        assert!(used + 2 * TICK >= WORK, "{used:?}");
    }
}
