//! Figures, and the Markdown they are printed as. In: what was measured. Out: medians, percentiles, one table, a line
//! about the machine.

use std::time::Duration;

/// Rows as they come.
pub struct Table {
    rows: Vec<[String; 3]>,
    load_before: String,
}

impl Table {
    /// Nothing measured yet.
    pub fn new() -> Self {
        Self { rows: Vec::new(), load_before: load() }
    }

    /// One figure. Progress goes to stderr, for whoever waits.
    pub fn row(&mut self, what: impl Into<String>, figure: impl Into<String>, note: impl Into<String>) {
        let row = [what.into(), figure.into(), note.into()];
        eprintln!("{}: {} {}", row[0], row[1], row[2]);
        self.rows.push(row);
    }

    /// The agent against the floor. The ratio is the agent's figure by the floor's.
    pub fn compare(&mut self, what: String, floor: String, agent: String, ratio: f64, bar: String, met: bool) {
        let met = if met { "met" } else { "**missed**" };
        self.row(what, format!("{ratio:.2}"), format!("floor {floor}, agent {agent}; bar {bar}: {met}"));
    }

    /// Prints everything to stdout.
    pub fn print(&self, took: Duration) {
        println!("{}", machine());
        println!(
            "{}; load average {} before, {} after; took {:.0} s.",
            jiff::Timestamp::now().strftime("%Y-%m-%d"),
            self.load_before,
            load(),
            took.as_secs_f64()
        );
        println!("\n| what | figure | how |\n| --- | --- | --- |");
        for [what, figure, note] in &self.rows {
            println!("| {what} | {figure} | {note} |");
        }
    }
}

/// The middle one (the upper of two).
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The time that this share of all stays below.
pub fn quantile(times: &[Duration], share: f64) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    let index = (share * times.len().saturating_sub(1) as f64).round() as usize;
    times.get(index).copied().unwrap_or_default()
}

/// p50, p99 and maximum, as `3.1 / 9.8 / 14 ms`.
pub fn percentiles(times: Vec<Duration>) -> String {
    let at = |share: f64| ms(quantile(&times, share));
    format!("{} / {} / {} ms", at(0.5), at(0.99), at(1.0))
}

/// Milliseconds with as many digits as mean something.
pub fn ms(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

fn file(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn load() -> String {
    file("/proc/loadavg").split_whitespace().next().unwrap_or("unknown").to_owned()
}

/// Processor, cores, memory, system (Linux).
fn machine() -> String {
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field(&file("/proc/meminfo"), "MemTotal");
    let gib = memory.trim_end_matches(" kB").parse::<f64>().unwrap_or_default() / 1024.0 / 1024.0;
    let kernel = file("/proc/sys/kernel/osrelease");
    let kernel = kernel.split('-').next().unwrap_or_default().trim();
    format!("{}, {cores} cores, {gib:.0} GiB, Linux {kernel}.", field(&file("/proc/cpuinfo"), "model name"))
}
