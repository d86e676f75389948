//! Where the repository, its tools and its binaries are.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result, bail};

/// The repository's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// A binary of this workspace, built beside the running one.
///
/// # Errors
/// It is not there: build the workspace first (`./script/test` and `./script/demo` do).
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let mut dir = own.parent().context("own folder")?.to_path_buf();
    if dir.ends_with("deps") {
        dir.pop();
    }
    let path = dir.join(name);
    if !path.exists() {
        bail!("{} is missing: run cargo build --workspace first", path.display());
    }
    Ok(path)
}

/// A tool installed by `script/setup`.
///
/// # Errors
/// It is not there.
pub fn tool(name: &str) -> Result<PathBuf> {
    let path = root().join("node_modules/.bin").join(name);
    if !path.exists() {
        bail!("{} is missing: run ./script/setup first", path.display());
    }
    Ok(path)
}

/// A program of this machine.
///
/// # Errors
/// It is not in `PATH`.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").context("no PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.exists()).with_context(|| name.to_owned())
}

/// The folder that the workspace is built into.
///
/// # Errors
/// The running program lies elsewhere.
pub fn target() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let profile = own.ancestors().skip(1).find(|dir| !dir.ends_with("deps"));
    profile.and_then(Path::parent).map(Path::to_path_buf).context("no target folder")
}

/// Below the ports that outgoing connections are given, which may have taken any other one when a killed process comes back.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A TCP port that is free now, that no connection takes on its own, and that this process gets once.
///
/// # Errors
/// None can be bound.
pub fn free_port() -> Result<u16> {
    static LAST: AtomicU32 = AtomicU32::new(0);
    static FIRST: LazyLock<u32> = LazyLock::new(rand::random);
    for _ in PORTS {
        let next = FIRST.wrapping_add(LAST.fetch_add(1, Ordering::Relaxed)) % PORTS.len() as u32;
        let port = PORTS.start + u16::try_from(next)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("all ports between {} and {} are taken", PORTS.start, PORTS.end)
}
