//! Parties that are silent, slow or of another opinion: who is honest is enough, and who is missing is named.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy::primitives::B256;
use kms_relayer::dispatch::{Committee, Question, Receipt, Said};
use kms_relayer::state::State;
use tokio::sync::mpsc;

use crate::pipeline::{pipeline_with, pull, says, until};
use crate::support::{CONTEXT, Scripted, TempStore, answer, cleartexts, store};

/// Parties some of which say nothing the first few times that they are asked.
#[derive(Debug)]
struct Silent {
    others: Arc<Scripted>,
    /// How often each of them is silent.
    times: Mutex<BTreeMap<u32, usize>>,
}

impl Silent {
    fn new(times: &[(u32, usize)], others: Arc<Scripted>) -> Arc<Self> {
        let times = Mutex::new(times.iter().copied().collect());
        Arc::new(Self { others, times })
    }
}

#[async_trait::async_trait]
impl Committee for Silent {
    fn parties(&self) -> Vec<u32> {
        self.others.parties()
    }
    fn threshold(&self) -> usize {
        self.others.threshold()
    }
    fn faults(&self) -> usize {
        self.others.faults()
    }
    fn context(&self) -> B256 {
        CONTEXT
    }
    fn ask(&self, mut question: Question) -> mpsc::Receiver<(u32, Said)> {
        let (send, receive) = mpsc::channel(8);
        let patience = question.patience;
        let mut silent = Vec::new();
        question.parties.retain(|party| {
            let mut times = self.times.lock().unwrap();
            let left = times.entry(*party).or_default();
            let speaks = *left == 0;
            *left = left.saturating_sub(1);
            if !speaks {
                silent.push(*party);
            }
            speaks
        });
        let mut said = self.others.ask(question);
        while let Ok(answer) = said.try_recv() {
            send.try_send(answer).unwrap();
        }
        // As the transport does: after its time a party counts as out of reach.
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            for party in silent {
                let _ = send.send((party, Said::Unreachable("no answer in time".into()))).await;
            }
        });
        receive
    }
    async fn receipt(&self, party: u32, request: B256) -> Option<Receipt> {
        self.others.receipt(party, request).await
    }
}

#[tokio::test]
async fn one_silent_party_holds_up_nobody() {
    let TempStore { store, dir: _dir } = store().await;
    let job = pull(&store).await;
    let parties = Silent::new(&[(2, usize::MAX)], Scripted::honest());
    // A patience that no test would wait for.
    let patient =
        |rules: &mut kms_relayer::pipeline::PipelineRules| rules.dispatch.patience = Duration::from_secs(3_600);
    until(&store, pipeline_with(&store, parties, &Arc::default(), patient), job, &[State::Done]).await;
    let view = store.view(job).await.unwrap().unwrap();
    assert_eq!(view.answers.iter().map(|answer| answer.party).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(view.parties[1].status, "asked");
}

#[tokio::test]
async fn two_silent_parties_are_named_until_one_speaks() {
    let TempStore { store, dir: _dir } = store().await;
    let job = pull(&store).await;
    let parties = Silent::new(&[(2, usize::MAX), (3, 4)], Scripted::honest());
    let quick = |rules: &mut kms_relayer::pipeline::PipelineRules| {
        rules.dispatch.patience = Duration::from_millis(20);
        rules.dispatch.longest_pause = Duration::from_millis(10);
        // However slow this machine is, the end of the silent one's last call is heard.
        rules.dispatch.tail = Duration::from_secs(60);
    };
    until(&store, pipeline_with(&store, parties, &Arc::default(), quick), job, &[State::Done]).await;
    let view = store.view(job).await.unwrap().unwrap();
    assert_eq!(view.job.cleartexts, Some(cleartexts(7)));
    assert_eq!((view.parties[1].status.as_str(), view.parties[2].status.as_str()), ("unreachable", "answered"));
}

#[tokio::test]
async fn a_liar_with_a_good_signature_is_outvoted() {
    let TempStore { store, dir: _dir } = store().await;
    let job = pull(&store).await;
    let lies = |party| Said::Answer(answer(party, 66));
    let parties = Scripted::new(vec![vec![lies(1)], vec![says(2)], vec![says(3)], vec![says(4)]]);
    until(&store, pipeline_with(&store, parties, &Arc::default(), |_| {}), job, &[State::Done]).await;
    let job = store.job(job).await.unwrap().unwrap();
    assert_eq!(job.cleartexts, Some(cleartexts(7)));
}

#[tokio::test]
async fn parties_that_split_evenly_give_no_answer_until_one_changes_its_mind() {
    let TempStore { store, dir: _dir } = store().await;
    let job = pull(&store).await;
    let lies = |party| Said::Answer(answer(party, 66));
    let parties =
        Scripted::new(vec![vec![lies(1)], vec![lies(2), lies(2), lies(2), says(2)], vec![says(3)], vec![says(4)]]);
    until(&store, pipeline_with(&store, parties.clone(), &Arc::default(), |_| {}), job, &[State::Done]).await;
    let job = store.job(job).await.unwrap().unwrap();
    assert_eq!(job.cleartexts, Some(cleartexts(7)));
    assert!(parties.times_asked(2) >= 4, "whoever is in the smaller half is asked again");
}
