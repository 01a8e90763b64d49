//! What the host offers, controller by controller, whether it can be used or not.

use std::fs;
use std::path::PathBuf;

use super::places;

/// A controller in the hierarchy that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    /// The controller's name in version 1; `cpuacct` is part of every version 2 group.
    pub(crate) controller: &'static str,
    /// 1 or 2.
    pub(crate) version: u8,
    /// Our own group there.
    pub(crate) place: PathBuf,
}

/// Lists the controllers that limits and counters come from. Version 2 goes before version 1, as when they are used.
pub(crate) fn offered() -> Vec<Offer> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let places = places::read(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"));
    let mut offers = Vec::new();
    if let Some(place) = &places.unified {
        let controllers = fs::read_to_string(place.join("cgroup.controllers")).unwrap_or_default();
        let has = |name: &str| controllers.split_whitespace().any(|word| word == name);
        if has("memory") && has("pids") {
            let found = ["memory", "pids", "cpuacct", "cpu"]
                .into_iter()
                .filter(|name| *name == "cpuacct" || has(name));
            offers.extend(found.map(|controller| Offer { controller, version: 2, place: place.clone() }));
            return offers;
        }
    }
    for (controller, place) in [
        ("memory", places.memory.as_ref()),
        ("pids", places.pids.as_ref()),
        ("cpuacct", places.cpuacct.as_ref()),
        ("cpu", places.cpu.as_ref()),
    ] {
        offers.extend(place.map(|place| Offer { controller, version: 1, place: place.clone() }));
    }
    offers
}
