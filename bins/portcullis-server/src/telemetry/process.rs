//! What the kernel says of this process (proc(5)), under the names that every Prometheus client uses for it.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};

/// The figures of this process: of the server alone, not of the launcher, the cells or the commands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figures {
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_bytes: u64,
    pub(crate) virtual_bytes: u64,
    pub(crate) open_files: u64,
    pub(crate) open_files_limit: u64,
    /// Since 1970.
    pub(crate) started_seconds: f64,
}

/// Reads them; `None` where `/proc` is not there to be read.
pub(crate) fn figures() -> Option<Figures> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let booted = fs::read_to_string("/proc/stat").ok()?;
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let open_files = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    let mut figures = of(&stat, &booted, &limits, clock_ticks_per_second(), page_size() as u64)?;
    // One of them is the directory that was just looked at.
    figures.open_files = open_files.saturating_sub(1);
    Some(figures)
}

#[expect(clippy::cast_precision_loss, reason = "ticks since boot are far below 2^53")]
fn of(stat: &str, booted: &str, limits: &str, ticks: u64, page: u64) -> Option<Figures> {
    // The name in parentheses may hold anything; the third field is the first behind it.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let field = |number: usize| fields.get(number - 3)?.trim().parse::<u64>().ok();
    let seconds = |field: u64| field as f64 / ticks.max(1) as f64;
    let booted = booted.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse::<u64>().ok()?;
    let limit =
        limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?;
    Some(Figures {
        cpu_seconds: seconds(field(14)? + field(15)?),
        virtual_bytes: field(23)?,
        resident_bytes: field(24)? * page,
        started_seconds: booted as f64 + seconds(field(22)?),
        open_files: 0,
        open_files_limit: limit.parse().unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_past_any_name_that_a_process_may_have() {
        let stat = "77 (a) S (b) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 17 18 3000 4096000 25 1844";
        let limits = "Limit Soft Hard Units\nMax cpu time  unlimited unlimited seconds\n\
                      Max open files            1024                 1048576              files\n";
        let figures = of(stat, "cpu 1 2\nbtime 1700000000\n", limits, 100, 4096).unwrap();
        let wanted = Figures {
            cpu_seconds: 2.0,
            resident_bytes: 102_400,
            virtual_bytes: 4_096_000,
            open_files: 0,
            open_files_limit: 1024,
            started_seconds: 1_700_000_030.0,
        };
        assert_eq!(figures, wanted);
    }

    #[test]
    fn this_process_has_figures() {
        let figures = figures().unwrap();
        assert!(figures.resident_bytes > 0 && figures.open_files > 2);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - figures.started_seconds;
        assert!((-2.0..7_200.0).contains(&age), "{age}");
    }
}
