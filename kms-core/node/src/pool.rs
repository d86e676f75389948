//! Heavy work on rayon's pool, away from the threads that serve connections.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs work on the pool. A panic of the work goes on in the caller: left alone it would end the process.
pub(crate) async fn compute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    rayon::spawn(move || {
        // Nobody listens any more when the process ends.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
    });
    match receiver.await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => unreachable!("the work on the pool always answers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_the_work_is_the_callers() {
        assert_eq!(compute(|| 7).await, 7);
        let outcome = tokio::spawn(compute(|| -> u8 { panic!("as the test wants it") })).await;
        assert!(outcome.unwrap_err().is_panic());
        assert_eq!(compute(|| 8).await, 8);
    }
}
