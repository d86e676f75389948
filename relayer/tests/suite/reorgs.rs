//! Reorganisations of depth 1 to 8: over requests, over fulfilments and over both, with what they carried in the same place,
//! in another block, later, or not at all.

use kms_relayer::state::State;

use crate::outbox_model::World;

/// What becomes of a request whose block is taken back.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It stands in the block that comes instead.
    Again,
    /// It comes some blocks later.
    Later,
    /// It does not come.
    Dropped,
}

/// How far the request has got when it happens.
#[derive(Debug, Clone, Copy)]
enum Progress {
    Seen,
    Sent,
    Fulfilled,
}

async fn over_a_request(depth: usize, fate: Fate, progress: Progress, forget: bool) {
    let what = format!("{depth} {fate:?} {progress:?} {forget}");
    let mut world = World::new().await;
    for _ in 0..3 {
        world.mine(&[], 0).await;
    }
    world.mine(&[0], 0).await;
    // One less on top of it than are taken back.
    let mut above = depth - 1;
    if !matches!(progress, Progress::Seen) {
        world.drive(0).await;
        assert_eq!(world.state(0).await, Some(State::Submitting), "{what}");
    }
    if matches!(progress, Progress::Fulfilled) && above > 0 {
        above -= 1;
        world.mine(&[], 1).await;
        world.tick().await;
        assert!(matches!(world.state(0).await, Some(State::Mined | State::Done)), "{what}");
    }
    for _ in 0..above {
        world.mine(&[], 0).await;
        world.tick().await;
    }
    let again: &[u64] = if matches!(fate, Fate::Again) { &[0] } else { &[] };
    world.reorg(depth, again, 0, forget).await;
    world.tick().await;
    match fate {
        Fate::Again => {}
        Fate::Later | Fate::Dropped => {
            assert_eq!(world.state(0).await, Some(State::Orphaned), "{what}");
            assert_eq!(world.answers(0), 0, "{what}");
            for _ in 0..2 {
                world.mine(&[], 2).await;
                world.tick().await;
            }
        }
    }
    // Whatever was sent for a request that is gone is used up or replaced; the next one is answered all the same.
    let wanted: &[u64] = if matches!(fate, Fate::Dropped) { &[1] } else { &[0, 1] };
    world.finish(wanted).await;
    if matches!(fate, Fate::Dropped) {
        assert_eq!((world.state(0).await, world.answers(0)), (Some(State::Orphaned), 0), "{what}");
    }
    assert_eq!(world.reverts(), 0, "{what}");
}

#[tokio::test]
async fn over_requests() {
    for depth in 1..=8 {
        for fate in [Fate::Again, Fate::Later, Fate::Dropped] {
            over_a_request(depth, fate, Progress::Seen, false).await;
        }
    }
}

#[tokio::test]
async fn over_requests_whose_answers_are_sent() {
    for depth in 1..=8 {
        for fate in [Fate::Again, Fate::Later, Fate::Dropped] {
            over_a_request(depth, fate, Progress::Sent, depth % 2 == 0).await;
        }
    }
}

#[tokio::test]
async fn over_requests_and_their_fulfilments() {
    for depth in 2..=8 {
        for fate in [Fate::Again, Fate::Later, Fate::Dropped] {
            over_a_request(depth, fate, Progress::Fulfilled, depth % 2 == 0).await;
        }
    }
}

#[tokio::test]
async fn over_fulfilments_alone() {
    for depth in 1..=8 {
        for (transactions, forget) in [(1, false), (0, false), (0, true)] {
            let what = format!("{depth} {transactions} {forget}");
            let mut world = World::new().await;
            world.mine(&[0, 1], 0).await;
            for n in [0, 1] {
                world.drive(n).await;
            }
            world.mine(&[], 2).await;
            world.tick().await;
            for _ in 1..depth {
                world.mine(&[], 0).await;
                world.tick().await;
            }
            for n in [0, 1] {
                assert!(matches!(world.state(n).await, Some(State::Mined | State::Done)), "{what}");
            }
            // None, one or both of them come back in the first block.
            world.reorg(depth, &[], transactions, forget).await;
            assert_eq!(world.answers(0), transactions, "{what}");
            assert_eq!(world.state(1).await, Some(State::Final), "{what}");
            world.finish(&[0, 1]).await;
            assert_eq!(world.reverts(), 0, "{what}");
        }
    }
}
