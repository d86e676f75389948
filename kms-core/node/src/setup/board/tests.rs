use super::*;

const JOINABLE: Duration = Duration::from_secs(15);

fn view(attempt: u32, stage: Stage) -> View {
    View { attempt, stage, running: Duration::ZERO, claim: None, digest: None }
}

/// Commitments of the sets of party `index` of 4 with one fault; `lie` is another key of its second set.
fn claim(index: u16, lie: bool) -> Vec<Commitment> {
    let own = sets(4, 1).filter(|set| set >> (index - 1) & 1 == 1);
    own.enumerate().map(|(i, set)| [if lie && i == 1 { 99 } else { set as u8 }; 32]).collect()
}

fn made(attempt: u32, index: u16, lie: bool) -> View {
    View { claim: Some(claim(index, lie)), ..view(attempt, Stage::Claimed) }
}

fn holds(attempt: u32, stage: Stage, digest: u8) -> View {
    View { digest: Some([digest; 32]), ..view(attempt, stage) }
}

/// The board of party 1 of 4, with what all parties say.
fn board(views: [Option<View>; 4]) -> Board {
    let [own, others @ ..] = views;
    let mut board = Board::new(4, 1, 1, own.unwrap());
    for (peer, view) in (2..).zip(others) {
        if let Some(view) = view {
            board.take(peer, view);
        }
    }
    board
}

#[test]
fn reports_say_what_was_meant_and_nonsense_is_refused() {
    let all = [
        view(1, Stage::Ready),
        view(1, Stage::Going),
        View { running: Duration::from_millis(1500), ..view(2, Stage::Running) },
        made(3, 2, false),
        view(4, Stage::Claimed),
        View { claim: Some(claim(2, false)), ..holds(5, Stage::Holds, 7) },
        holds(5, Stage::Holds, 7),
        view(6, Stage::GaveUp),
        holds(7, Stage::Done, 8),
    ];
    for view in all {
        assert_eq!(View::read(view.attempt, &view.report(), 3), Some(view));
    }
    let made = made(3, 2, false).report();
    let digest = vec![1; 32];
    let nonsense = [
        SetupReport::default(),
        SetupReport { stage: 99, ..made.clone() },
        SetupReport { claim: vec![0; 64], ..made.clone() },
        SetupReport { claim: vec![0; 95], ..made.clone() },
        SetupReport { claim: Vec::new(), ..made.clone() },
        SetupReport { digest: digest.clone(), ..made.clone() },
        SetupReport { stage: SetupStage::Failed.into(), ..made.clone() },
        SetupReport { stage: SetupStage::Ready.into(), ..made.clone() },
        SetupReport { stage: SetupStage::Holds.into(), ..made.clone() },
        SetupReport { stage: SetupStage::Done.into(), digest: vec![1; 31], ..made.clone() },
        SetupReport { stage: SetupStage::GaveUp.into(), digest, ..made.clone() },
    ];
    for report in nonsense {
        assert_eq!(View::read(1, &report, 3), None, "{report:?}");
    }
    assert_eq!(View::read(0, &made, 3), None);
}

#[test]
fn a_party_goes_forward_only_and_its_first_word_stands() {
    let mut board = Board::new(4, 1, 1, view(1, Stage::Ready));
    assert!(board.take(2, made(1, 2, false)));
    assert!(!board.take(2, made(1, 2, true)), "another claim");
    assert!(!board.take(2, view(1, Stage::Ready)));
    assert!(board.take(2, View { claim: Some(claim(2, true)), ..holds(1, Stage::Holds, 7) }));
    assert_eq!(board.view(2).unwrap().claim, Some(claim(2, false)));
    assert!(!board.take(2, view(1, Stage::GaveUp)), "it holds");
    assert!(board.take(2, view(2, Stage::Ready)));
    assert!(!board.take(2, holds(1, Stage::Done, 7)), "an older attempt");
    assert!(!board.take(9, view(1, Stage::Ready)), "no party");
    assert!(!board.take(0, view(1, Stage::Ready)), "no party");
}

#[test]
fn all_start_together_or_enough_of_them_when_patience_ends() {
    let ready = || Some(view(1, Stage::Ready));
    let going = || Some(view(1, Stage::Going));
    let start = |views, connected: &[u16], patient| board(views).start(1, connected, patient, JOINABLE);
    assert_eq!(start([ready(), ready(), ready(), ready()], &[2, 3, 4], true), Start::Go(vec![]));
    assert_eq!(start([ready(), ready(), ready(), None], &[2, 3], true), Start::Wait(vec![4]));
    assert_eq!(start([ready(), ready(), ready(), None], &[2, 3], false), Start::Go(vec![4]));
    assert_eq!(start([ready(), ready(), None, None], &[2], false), Start::Wait(vec![3, 4]));
    // It has said so, but it is not there any more.
    assert_eq!(start([ready(), ready(), ready(), ready()], &[2, 4], true), Start::Wait(vec![3]));
    // Enough others want to start; one alone may be lying.
    assert_eq!(start([ready(), going(), going(), None], &[2, 3], true), Start::Go(vec![4]));
    assert_eq!(start([ready(), going(), ready(), None], &[2, 3], true), Start::Wait(vec![4]));
    assert_eq!(start([going(), going(), going(), None], &[2, 3], true), Start::Begin);
    assert_eq!(start([going(), going(), ready(), None], &[2, 3], true), Start::Wait(vec![4]));
    // A party that was there, and has failed before the others could start, is not waited for.
    let failed = || Some(view(1, Stage::Claimed));
    assert_eq!(start([ready(), ready(), ready(), failed()], &[2, 3, 4], true), Start::Go(vec![]));
    assert_eq!(start([ready(), ready(), failed(), failed()], &[2, 3, 4], true), Start::SitOut);
}

#[test]
fn a_run_that_has_just_begun_is_joined_and_an_older_one_is_not() {
    let running = |seconds| Some(View { running: Duration::from_secs(seconds), ..view(1, Stage::Running) });
    let (ready, going) = (|| Some(view(1, Stage::Ready)), || Some(view(1, Stage::Going)));
    let start = |views| board(views).start(1, &[2, 3], true, JOINABLE);
    assert_eq!(start([going(), running(1), running(2), None]), Start::Begin);
    assert_eq!(start([ready(), running(1), running(2), None]), Start::Go(vec![4]));
    assert_eq!(start([going(), running(30), running(20), None]), Start::SitOut);
    // One alone may be lying, about being late as well.
    assert_eq!(start([going(), running(1), running(20), None]), Start::Begin);
    assert_eq!(start([ready(), running(1), ready(), None]), Start::Wait(vec![4]));
}

/// Four parties that are all there, one of which tells each of the others something else: the honest ones all begin, and
/// none of them alone.
#[test]
fn a_party_with_two_faces_neither_starts_one_alone_nor_keeps_all_from_starting() {
    let told = [None, Some(Stage::Ready), Some(Stage::Going), Some(Stage::Running), Some(Stage::Claimed)];
    for faces in 0..told.len().pow(3) {
        let face = |party: usize| told[faces / told.len().pow(party as u32) % told.len()];
        let mut stages = [Stage::Ready; 3];
        let mut began = Vec::new();
        for step in 0..8 {
            let patient = step < 4;
            let next: Vec<Stage> = (0..3)
                .map(|own| {
                    let mut board = Board::new(4, 1, own as u16 + 1, view(1, stages[own]));
                    for p in (0..3).filter(|p| *p != own) {
                        board.take(p as u16 + 1, view(1, stages[p]));
                    }
                    let connected: Vec<u16> = (1..=3u16).chain(face(own).map(|_| 4)).collect();
                    if let Some(stage) = face(own) {
                        board.take(4, view(1, stage));
                    }
                    match (stages[own], board.start(1, &connected, patient, JOINABLE)) {
                        (Stage::Running, _) | (_, Start::Begin) => Stage::Running,
                        (stage, Start::Go(_)) => stage.max(Stage::Going),
                        (stage, Start::Wait(_)) => stage,
                        (_, Start::SitOut) => panic!("{faces}: sits out"),
                    }
                })
                .collect();
            stages.copy_from_slice(&next);
            began.push(next.iter().filter(|stage| **stage == Stage::Running).count());
        }
        assert_eq!(began.last(), Some(&3), "{faces}: {began:?}");
        let first = began.iter().position(|count| *count > 0).unwrap();
        assert!(began[first + 1..].iter().skip(1).all(|count| *count == 3), "{faces}: {began:?}");
    }
}

#[test]
fn claims_of_enough_members_are_agreed_whatever_one_party_claims() {
    let expected: Vec<Commitment> = sets(4, 1).map(|set| [set as u8; 32]).collect();
    let m = |index| Some(made(1, index, false));
    assert_eq!(board([m(1), m(2), m(3), m(4)]).agreed(1), Some(expected.clone()));
    assert_eq!(board([m(1), m(2), m(3), None]).agreed(1), Some(expected.clone()), "each set has two claims");
    assert_eq!(board([m(1), m(2), m(3), Some(made(1, 4, true))]).agreed(1), Some(expected.clone()));
    assert_eq!(board([m(1), m(2), Some(made(1, 3, true)), None]).agreed(1), None, "one against one");
    assert_eq!(board([m(1), m(2), None, None]).agreed(1), None, "more claims may come");
    // Two parties have lost what they made: what is left is all that there is.
    let failed = || Some(view(1, Stage::Claimed));
    assert_eq!(board([m(1), m(2), failed(), failed()]).agreed(1), Some(expected));
    assert_eq!(board([m(1), failed(), failed(), failed()]).agreed(1), None, "a set without a claim");
    assert_eq!(board([m(1), m(2), m(3), m(4)]).agreed(2), None, "another attempt");
}

#[test]
fn an_attempt_is_given_up_only_if_too_few_have_keys() {
    let failed = || Some(view(1, Stage::Claimed));
    let m = |index| Some(made(1, index, false));
    assert!(board([failed(), failed(), failed(), None]).hopeless(1));
    assert!(!board([m(1), m(2), failed(), failed()]).hopeless(1));
    assert!(!board([failed(), failed(), None, None]).hopeless(1));
}

#[test]
fn keys_and_death_of_an_attempt_exclude_each_other() {
    let (hold, gave) = (|| holds(1, Stage::Holds, 7), || view(1, Stage::GaveUp));
    assert!(board([Some(hold()), Some(hold()), Some(hold()), None]).complete(1, [7; 32]));
    assert!(!board([Some(hold()), Some(hold()), None, None]).complete(1, [7; 32]));
    assert!(!board([Some(hold()), Some(hold()), Some(holds(1, Stage::Holds, 8)), None]).complete(1, [7; 32]));
    assert!(board([Some(gave()), Some(gave()), Some(gave()), None]).dead(1));
    assert!(!board([Some(gave()), Some(gave()), None, None]).dead(1));
    // Whatever one liar tells whom: with any votes of three honest parties only one of the two can be seen.
    for votes in 0..8u8 {
        let honest: Vec<View> = (0..3).map(|i| if votes >> i & 1 == 1 { hold() } else { gave() }).collect();
        let seen = |lie: View| {
            let [a, b, c] = [0, 1, 2].map(|i| Some(honest[i].clone()));
            let board = board([a, b, c, Some(lie)]);
            (board.complete(1, [7; 32]), board.dead(1))
        };
        let (all_hold, all_gave) = (seen(hold()), seen(gave()));
        assert!(!((all_hold.0 || all_gave.0) && (all_hold.1 || all_gave.1)), "{votes:03b}");
    }
}

#[test]
fn one_party_alone_convinces_nobody() {
    let own = || Some(view(1, Stage::Ready));
    let done = || Some(holds(1, Stage::Done, 7));
    assert_eq!(board([own(), done(), None, None]).done(), None);
    assert_eq!(board([own(), done(), Some(holds(1, Stage::Done, 8)), None]).done(), None);
    assert_eq!(board([own(), done(), done(), None]).done(), Some((1, [7; 32])));
    let later = || Some(view(3, Stage::Ready));
    assert_eq!(board([own(), later(), None, None]).beyond(1), None);
    assert_eq!(board([own(), later(), Some(view(2, Stage::Ready)), None]).beyond(1), Some(2));
    assert_eq!(board([own(), later(), later(), None]).beyond(3), None);
    let held = || Some(holds(1, Stage::Holds, 7));
    assert_eq!(board([own(), held(), None, None]).held(1), None);
    assert_eq!(board([own(), held(), held(), None]).held(1), Some([7; 32]));
    assert_eq!(board([own(), held(), held(), None]).holders(1, [7; 32]), [2, 3]);
    assert_eq!(board([own(), held(), held(), None]).behind(1, Stage::Claimed), [4]);
}
