//! A real chain for a test: anvil as a process.

use std::{
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// anvil; it ends with the value.
#[derive(Debug)]
pub struct Anvil {
    child: Child,
    /// Its port.
    pub port: u16,
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Anvil {
    /// Starts it on a port that the system gives to it: one that was looked for before may be taken by then. Answers calls
    /// when this returns.
    ///
    /// # Errors
    /// It is not installed, or ends at once.
    pub fn start(arguments: &[&str]) -> io::Result<Self> {
        let program = program().ok_or_else(|| io::Error::other("no anvil in node_modules: run script/setup"))?;
        let mut command = Command::new(program);
        command.args(["--port", "0"]).args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        // From here on it ends with the value, whatever goes wrong.
        let mut anvil = Self { child, port: 0 };
        let mut output = BufReader::new(output);
        let mut line = String::new();
        while anvil.port == 0 {
            line.clear();
            if output.read_line(&mut line)? == 0 {
                return Err(io::Error::other("anvil ended"));
            }
            let port = line.trim().strip_prefix("Listening on 127.0.0.1:").map(str::parse);
            anvil.port = port.transpose().map_err(io::Error::other)?.unwrap_or_default();
        }
        // Its chatter must go somewhere, or it blocks.
        std::thread::spawn(move || io::copy(&mut output, &mut io::sink()));
        Ok(anvil)
    }

    /// Its JSON-RPC address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// The program itself, not npm's wrapper, which would leave it running when killed.
fn program() -> Option<PathBuf> {
    let packages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node_modules/@foundry-rs");
    let mut entries =
        packages.read_dir().ok()?.filter_map(|entry| entry.ok().map(|entry| entry.path().join("bin/anvil")));
    entries.find(|path| path.is_file() && path.to_string_lossy().contains("anvil-"))
}
