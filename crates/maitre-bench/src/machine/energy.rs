//! Energy of the processors by RAPL (Intel, "Software developer's manual", volume 3B, chapter on platform-specific power
//! management), as Linux shows it. Most systems let only the administrator read it.

use std::fs;
use std::path::{Path, PathBuf};

/// Where Linux shows the counters.
const POWERCAP: &str = "/sys/class/powercap";

/// The counters of all processor packages.
#[derive(Debug)]
pub(crate) struct EnergyMeter {
    packages: Vec<Package>,
}

#[derive(Debug)]
struct Package {
    folder: PathBuf,
    /// The counter begins again behind this.
    range_uj: u64,
    last_uj: u64,
    joules: f64,
}

impl EnergyMeter {
    /// Starts to count; `None` where nothing can be read.
    pub(crate) fn start() -> Option<Self> {
        Self::start_at(Path::new(POWERCAP))
    }

    fn start_at(powercap: &Path) -> Option<Self> {
        let entries = fs::read_dir(powercap).ok()?.flatten();
        let packages = entries.filter(|entry| {
            // `intel-rapl:0` is a package; `intel-rapl:0:1` is a part of it, and counted with it.
            let name = entry.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix("intel-rapl:"));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        });
        let packages: Vec<Package> = packages.filter_map(|it| Package::of(it.path())).collect();
        (!packages.is_empty()).then_some(Self { packages })
    }

    /// Counts on. A counter may come round about once a minute under load, so more often than that.
    pub(crate) fn look(&mut self) {
        self.packages.iter_mut().for_each(Package::look);
    }

    /// What has been used since the start.
    pub(crate) fn joules(&mut self) -> f64 {
        self.look();
        self.packages.iter().map(|package| package.joules).sum()
    }
}

impl Package {
    fn of(folder: PathBuf) -> Option<Self> {
        Some(Self {
            range_uj: number(&folder.join("max_energy_range_uj"))?,
            last_uj: number(&folder.join("energy_uj"))?,
            joules: 0.0,
            folder,
        })
    }

    fn look(&mut self) {
        let Some(now) = number(&self.folder.join("energy_uj")) else {
            return;
        };
        let used = match now.checked_sub(self.last_uj) {
            Some(used) => used,
            None => self.range_uj.saturating_sub(self.last_uj) + now,
        };
        self.last_uj = now;
        self.joules += used as f64 / 1e6;
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_added_up_and_counters_come_round() {
        let folder = tempfile::tempdir().unwrap();
        let set = |name: &str, uj: u64| {
            let package = folder.path().join(name);
            fs::create_dir_all(&package).unwrap();
            fs::write(package.join("max_energy_range_uj"), "10000000\n").unwrap();
            fs::write(package.join("energy_uj"), format!("{uj}\n")).unwrap();
        };
        assert!(EnergyMeter::start_at(folder.path()).is_none());
        assert!(EnergyMeter::start_at(&folder.path().join("none")).is_none());
        for (name, uj) in [
            ("intel-rapl:0", 9_000_000),
            ("intel-rapl:1", 0),
            ("intel-rapl:0:0", 0),
        ] {
            set(name, uj);
        }
        let mut meter = EnergyMeter::start_at(folder.path()).unwrap();
        assert_eq!(meter.joules(), 0.0);
        set("intel-rapl:0", 1_000_000);
        set("intel-rapl:1", 500_000);
        set("intel-rapl:0:0", 9_000_000);
        assert_eq!(meter.joules(), 2.5);
    }
}
