//! A harness for test binaries whose tests start processes: one test after the other, and the processes die with the run.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use futures::FutureExt;

/// A test on its way.
pub type TestFuture = Pin<Box<dyn Future<Output = Result<()>>>>;
/// Its name, and how it begins.
pub type Test = (&'static str, fn() -> TestFuture);

/// The list of tests, as `module::function`.
#[macro_export]
macro_rules! tests {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((concat!(stringify!($module), "::", stringify!($name)), || Box::pin($module::$name()))),*]
    };
}

/// Runs the tests whose names contain an argument of the command line, or all; prints what `cargo test` would.
pub fn main(tests: &[Test], patience: Duration) -> ExitCode {
    let filter: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if std::env::args().any(|arg| arg == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let chosen: Vec<_> =
        tests.iter().filter(|(name, _)| filter.is_empty() || filter.iter().any(|part| name.contains(part))).collect();
    println!("\nrunning {} tests", chosen.len());
    let clock = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    for (name, test) in &chosen {
        let begin = Instant::now();
        let outcome = run(*test, patience);
        let seconds = begin.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => {
                passed += 1;
                println!("test {name} ... ok ({seconds:.1} s)");
            }
            Err(why) => {
                failed += 1;
                println!("test {name} ... FAILED ({seconds:.1} s)\n{why}");
            }
        }
    }
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s",
        if failed == 0 { "ok" } else { "FAILED" },
        tests.len() - chosen.len(),
        clock.elapsed().as_secs_f64()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One test in a runtime of its own, so that nothing of it lives on.
fn run(test: fn() -> TestFuture, patience: Duration) -> Result<(), String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let guarded = AssertUnwindSafe(async { tokio::time::timeout(patience, test()).await }).catch_unwind();
    let outcome = match runtime.block_on(guarded) {
        Ok(Ok(outcome)) => outcome.map_err(|error| format!("{error:?}")),
        Ok(Err(_)) => Err(format!("still running after {patience:?}")),
        // What it says was printed when it happened.
        Err(_) => Err("it panicked".to_owned()),
    };
    runtime.shutdown_background();
    outcome
}
