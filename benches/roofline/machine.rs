//! What this machine is: its CPU, its caches, its clock.

use std::fs;
use std::path::Path;

/// A cache of data.
#[derive(Clone, Debug)]
pub struct Cache {
    pub name: &'static str,
    pub bytes: usize,
    /// How many CPUs share one of it.
    pub shared_by: usize,
}

impl Cache {
    /// How many of it that many threads have, each on a CPU of its own.
    pub fn instances(&self, threads: usize, cpus: usize) -> usize {
        threads.min(cpus.div_ceil(self.shared_by)).max(1)
    }
}

pub struct Machine {
    pub cpu: String,
    /// All of the machine's, whether or not this process may run on them.
    pub cpus: usize,
    /// The nearest first.
    pub caches: Vec<Cache>,
    /// Whether the system told the caches; else they are assumed.
    pub caches_known: bool,
    /// Of today, in UTC: 2026-11-22.
    pub date: String,
}

impl Machine {
    /// `L1 32 KiB, L2 1024 KiB, L3 32768 KiB`
    pub fn sizes(&self) -> String {
        let sizes = self.caches.iter().map(|cache| format!("{} {} KiB", cache.name, cache.bytes >> 10));
        let origin = if self.caches_known { "" } else { " (assumed: the system does not tell)" };
        format!("{}{origin}", sizes.collect::<Vec<_>>().join(", "))
    }

    pub fn this() -> Self {
        let cpus = read("/sys/devices/system/cpu/present").as_deref().and_then(count_cpus);
        let cpus = cpus.or_else(|| Some(std::thread::available_parallelism().ok()?.get())).unwrap_or(1);
        let known = caches_of_linux();
        let assumed = || {
            let cache = |name, bytes, shared_by| Cache { name, bytes, shared_by };
            vec![cache("L1", 32 << 10, 1), cache("L2", 1 << 20, 1), cache("L3", 16 << 20, cpus)]
        };
        let caches_known = known.is_some();
        Self {
            cpu: cpu(),
            cpus,
            caches: known.unwrap_or_else(assumed),
            caches_known,
            date: time::OffsetDateTime::now_utc().date().to_string(),
        }
    }
}

/// What a command says in one line: the compiler's version, the commit.
pub fn said(command: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(command).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| "unknown".into())
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// The CPUs of a list as Linux writes it: `0-3,8` are five.
fn count_cpus(list: &str) -> Option<usize> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<usize>().ok()? + 1 - first.parse::<usize>().ok()?)
    };
    list.split(',').map(range).sum()
}

fn caches_of_linux() -> Option<Vec<Cache>> {
    let mut caches = Vec::new();
    for index in 0..8 {
        let of = |what: &str| read(format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{what}"));
        let Some(kind) = of("type") else { break };
        let name = match (&*kind, &*of("level")?) {
            ("Data" | "Unified", "1") => "L1",
            ("Data" | "Unified", "2") => "L2",
            ("Data" | "Unified", "3") => "L3",
            _ => continue,
        };
        let size = of("size")?;
        let bytes = size.strip_suffix('K')?.parse::<usize>().ok()? << 10;
        caches.push(Cache { name, bytes, shared_by: count_cpus(&of("shared_cpu_list")?)? });
    }
    caches.sort_by_key(|cache| cache.name);
    (!caches.is_empty()).then_some(caches)
}

fn cpu() -> String {
    let info = read("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let mut fields = info.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
    };
    if let Some(name) = field("model name") {
        let details = field("cpu family").zip(field("model"));
        return details.map_or(name.into(), |(family, model)| format!("{name} (family {family}, model {model})"));
    }
    let sysctl = std::process::Command::new("sysctl").args(["-n", "machdep.cpu.brand_string"]).output();
    let macos = sysctl.ok().filter(|output| output.status.success());
    let macos = macos.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let windows = || std::env::var("PROCESSOR_IDENTIFIER").ok();
    macos.or_else(windows).unwrap_or_else(|| format!("a CPU of {}", std::env::consts::ARCH))
}
