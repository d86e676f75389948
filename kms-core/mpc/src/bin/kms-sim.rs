//! Runs scenarios over many seeds: `script/sim`. See docs/simulator.md.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use kms_mpc::Committee;
use kms_mpc::sim::sweep::{Plan, Sweep, play, sweep};
use kms_mpc::sim::{Run, SCENARIOS, Scenario, Timing, find};

const USAGE: &str = "\
Runs scenarios over many seeds on the simulated network, and judges every run.

usage: script/sim [options]
  --n N             parties (4)
  --t T             faults tolerated (1)
  --seeds S         seeds per scenario and profile (1000)
  --first-seed S    the first of them (0)
  --scenario NAME   one scenario, or `all` (all)
  --profile NAME    asynchronous, synchronous, bound-violated, or `all` (all that the scenario is written for)
  --lie NAME        exactly t liars that all tell this lie; otherwise the seeds decide
  --threads K       seeds at a time (all cores)
  --failures K      failing seeds to print per scenario and profile (3)
  --log             every event of the first seed; with a failing seed, of the failure
  --list            scenarios, their profiles and their lies
The exit code is 1 if a seed fails, 2 for a wrong command line.";

struct Options {
    committee: (usize, usize),
    seeds: u64,
    first: u64,
    scenario: String,
    profile: String,
    lie: Option<String>,
    threads: usize,
    failures: usize,
    log: bool,
    list: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            committee: (4, 1),
            seeds: 1000,
            first: 0,
            scenario: "all".into(),
            profile: "all".into(),
            lie: None,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            failures: 3,
            log: false,
            list: false,
        };
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
            let number = |text: String| text.parse::<u64>().map_err(|_| format!("{name} {text:?} is no number"));
            let small = |text: String| text.parse::<usize>().map_err(|_| format!("{name} {text:?} is no number"));
            match name.as_str() {
                "--n" => options.committee.0 = small(value()?)?,
                "--t" => options.committee.1 = small(value()?)?,
                "--seeds" => options.seeds = number(value()?)?,
                "--first-seed" => options.first = number(value()?)?,
                "--scenario" => options.scenario = value()?,
                "--profile" => options.profile = value()?,
                "--lie" => options.lie = Some(value()?),
                "--threads" => options.threads = small(value()?)?,
                "--failures" => options.failures = small(value()?)?,
                "--log" => options.log = true,
                "--list" => options.list = true,
                "--help" | "-h" => return Err(USAGE.into()),
                _ => return Err(format!("no option {name:?}\n\n{USAGE}")),
            }
        }
        Ok(options)
    }

    fn scenarios(&self) -> Result<Vec<&'static dyn Scenario>, String> {
        if self.scenario == "all" {
            return Ok(SCENARIOS.to_vec());
        }
        let names: Vec<_> = SCENARIOS.iter().map(|s| s.name()).collect();
        find(&self.scenario)
            .map(|scenario| vec![scenario])
            .ok_or_else(|| format!("no scenario {:?}; there are {}", self.scenario, names.join(", ")))
    }

    /// The models to run a scenario in.
    fn timings(&self, scenario: &dyn Scenario) -> Result<Vec<Timing>, String> {
        let wanted = if self.profile == "all" { Timing::ALL.to_vec() } else { vec![self.profile.parse()?] };
        Ok(scenario.timings().iter().copied().filter(|t| wanted.contains(t)).collect())
    }

    /// The lie to force, if the scenario knows it. `Err` if it does not.
    fn lie(&self, scenario: &dyn Scenario) -> Result<Option<&'static str>, ()> {
        let Some(wanted) = &self.lie else { return Ok(None) };
        scenario.lies().into_iter().find(|lie| lie == wanted).map(Some).ok_or(())
    }
}

fn list() {
    for scenario in SCENARIOS {
        let timings: Vec<_> = scenario.timings().iter().map(|t| t.name()).collect();
        println!("{}\n  profiles: {}\n  lies: {}", scenario.name(), timings.join(", "), scenario.lies().join(", "));
    }
}

/// Runs one scenario in one model with a line of progress, and prints what came out; whether all was well.
fn report(scenario: &dyn Scenario, plan: &Plan, options: &Options) -> bool {
    let start = Instant::now();
    let terminal = std::io::stderr().is_terminal();
    let (printed, out) = (AtomicU64::new(0), Mutex::new(std::io::stderr()));
    let sweep = sweep(scenario, plan, |done| {
        // Ten lines in a file, a hundred updates on a terminal.
        let step = (plan.seeds / if terminal { 100 } else { 10 }).max(1);
        if done / step > printed.fetch_max(done / step, Ordering::Relaxed)
            && let Ok(mut out) = out.lock()
        {
            let rate = done as f64 / start.elapsed().as_secs_f64();
            let end = if terminal { "\r" } else { "\n" };
            let _ = write!(out, "{} {}: {done}/{} seeds, {rate:.0}/s{end}", scenario.name(), plan.timing, plan.seeds);
        }
    });
    let Sweep { passed, total, failures } = &sweep;
    let (n, t, timing) = (plan.committee.n(), plan.committee.t(), plan.timing);
    println!(
        "{} {timing} ({n},{t}): {passed} of {} seeds passed in {:.1} s; {} results, {} refusals, {} unfinished, {} times \
         a liar was named, {} messages, at most {} bytes waited; runs {}",
        scenario.name(),
        plan.seeds,
        start.elapsed().as_secs_f64(),
        total.results,
        total.refusals,
        total.unfinished,
        total.named,
        total.delivered,
        total.peak,
        total.trace[..8].iter().map(|b| format!("{b:02x}")).collect::<String>(),
    );
    for (seed, violation) in failures.iter().take(options.failures) {
        let lie = plan.lie.map(|lie| format!(" --lie {lie}")).unwrap_or_default();
        println!("\nseed {seed}: {violation}\n{}", violation.setting);
        println!(
            "  again: script/sim --n {n} --t {t} --scenario {} --profile {timing}{lie} --first-seed {seed} --seeds 1 --log",
            scenario.name()
        );
    }
    if failures.len() > options.failures {
        println!("and {} more", failures.len() - options.failures);
    }
    if options.log {
        let seed = failures.first().map_or(plan.first, |(seed, _)| *seed);
        let run = Run { committee: plan.committee, timing, seed, lie: plan.lie, log: true };
        let log = match play(scenario, &run) {
            Ok(summary) => summary.log,
            Err(violation) => violation.log,
        };
        println!("\nseed {seed}:");
        log.iter().for_each(|line| println!("{line}"));
    }
    failures.is_empty()
}

fn run(options: &Options) -> Result<bool, String> {
    let (n, t) = options.committee;
    let committee = Committee::new(n, t).map_err(|error| error.to_string())?;
    let (mut well, mut ran) = (true, false);
    for scenario in options.scenarios()? {
        let Ok(lie) = options.lie(scenario) else { continue };
        for timing in options.timings(scenario)? {
            let (first, seeds, threads) = (options.first, options.seeds, options.threads);
            well &= report(scenario, &Plan { committee, timing, first, seeds, lie, threads }, options);
            ran = true;
        }
    }
    if ran { Ok(well) } else { Err("no scenario has this profile and this lie; see --list".into()) }
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    if options.list {
        list();
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}
