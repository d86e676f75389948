//! Child processes that a test starts, kills, pauses and restarts, and that never outlive it.

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A named child process with its log file. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    program: PathBuf,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Starts `program`; its output goes to `<logs>/<name>.log`, appended over restarts.
    ///
    /// # Errors
    /// The program can't be started or the log can't be opened.
    pub fn start(name: &str, program: &Path, args: &[String], envs: &[(String, String)], logs: &Path) -> Result<Self> {
        std::fs::create_dir_all(logs)?;
        let mut process = Self {
            name: name.to_owned(),
            program: program.to_owned(),
            args: args.to_vec(),
            envs: envs.to_vec(),
            log: logs.join(format!("{name}.log")),
            child: None,
        };
        process.restart()?;
        Ok(process)
    }

    /// The process's name, as in its log file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Seconds of processor time that the running process has used, and its resident memory now and at most, in bytes. Zeros
    /// when it does not run, or when this machine has no `/proc`.
    pub fn usage(&self) -> Usage {
        self.id().map_or_else(Usage::default, Usage::of)
    }

    /// Number of the running process.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Adds arguments for the next start.
    pub fn push_args(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
    }

    /// Replaces all arguments for the next start.
    pub fn set_args(&mut self, args: Vec<String>) {
        self.args = args;
    }

    /// The present arguments.
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// Starts the process again after [`Process::kill`] or its own end.
    ///
    /// # Errors
    /// It is still running, or can't be started.
    pub fn restart(&mut self) -> Result<()> {
        if self.is_running() {
            bail!("{} is still running", self.name);
        }
        let out = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let err: File = out.try_clone()?;
        let mut command = match parent_death_wrapper() {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL"]).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        let child = command
            .args(&self.args)
            .envs(self.envs.iter().cloned())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .with_context(|| format!("start {} ({})", self.name, self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Whether the process lives.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Kill −9, and wait until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and wait until it is gone.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// SIGSTOP: the process keeps its sockets but says nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT after [`Process::pause`].
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.child.as_ref().and_then(|child| Pid::from_raw(child.id().cast_signed())) {
            let _ = kill_process(pid, signal);
        }
    }

    /// The last lines of the log, for failure messages.
    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        format!("--- {} ({})\n{}", self.name, self.log.display(), all[all.len().saturating_sub(lines)..].join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A paused process must wake to die.
        self.resume();
        self.kill();
    }
}

/// Ticks per second in which Linux tells processor time, whatever its own clock is.
const TICKS: f64 = 100.0;

/// What a process takes of the machine.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Processor time since its start, in seconds.
    pub cpu: f64,
    /// Resident memory, in bytes.
    pub rss: u64,
    /// The most that it ever was.
    pub peak: u64,
}

impl Usage {
    /// Of a process by its number.
    pub fn of(pid: u32) -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let status = read("status");
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10
        };
        // The name of the program stands in parentheses and may hold anything; user and system time are fields 14 and 15.
        let stat = read("stat");
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u32 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
        Self { cpu: f64::from(ticks) / TICKS, rss: bytes("VmRSS:"), peak: bytes("VmHWM:") }
    }
}

/// util-linux's `setpriv`, by which a child dies even when this process is killed and can't drop anything.
fn parent_death_wrapper() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("setpriv")).find(|file| file.exists())
}

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// It can't be started or exits with another code than 0; the error carries its output.
pub fn run(program: &Path, args: &[&str], envs: &[(&str, String)], dir: &Path) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .envs(envs.iter().map(|(key, value)| (*key, value.as_str())))
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", program.display()))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{} {} ended with {}\n{stdout}\n{}",
            program.display(),
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(stdout)
}
