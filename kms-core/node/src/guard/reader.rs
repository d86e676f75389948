//! Questions to one host chain: those that come together are read together.
//!
//! One reading is under way at a time. What is asked meanwhile waits for the next one, so an answer is never older than its
//! question, and a burst of requests costs the endpoints one look at the heads and a few batches of calls.

use std::collections::HashMap;
use std::sync::Arc;

use alloy_primitives::{B256, Bytes};
use futures::future::{join_all, try_join_all};
use kms_chain::request::Finality;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::chain::{Chain, Reading};
use super::endpoint::{BlockRef, Endpoint, EndpointError, Heads};
use super::verdict::NotYetReason;
use super::view::Stop;

/// Questions of one reading.
const TOGETHER: usize = 256;

/// What the endpoints answered, still as bytes.
pub(super) type RawReading = Result<Reading<Bytes>, Stop>;

/// One question.
#[derive(Debug)]
struct Ask {
    asked: Finality,
    question: Bytes,
    reply: oneshot::Sender<RawReading>,
}

/// The questions that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    asks: Vec<Ask>,
    reading: bool,
}

/// Puts a question and waits for its answer.
pub(super) async fn ask(chain: &Arc<Chain>, asked: Finality, question: Bytes) -> RawReading {
    let (reply, answer) = oneshot::channel();
    let first = {
        let mut queue = chain.waiting.0.lock();
        queue.asks.push(Ask { asked, question, reply });
        !std::mem::replace(&mut queue.reading, true)
    };
    if first {
        let chain = chain.clone();
        // A task of its own: whoever asked may go away.
        tokio::spawn(async move { read_all(&chain).await });
    }
    answer.await.unwrap_or_else(|_| {
        Err(Stop::Wait(NotYetReason::ChainUnavailable, "the reading of the chain has ended early".into()))
    })
}

/// However a reading ends, even by a panic, the next question starts another.
struct Turn<'a>(&'a Chain);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.waiting.0.lock();
        queue.reading = false;
        // After a panic: whoever waits is told, by the end of its channel.
        queue.asks.clear();
    }
}

async fn read_all(chain: &Chain) {
    let turn = Turn(chain);
    loop {
        let asks = {
            let mut queue = chain.waiting.0.lock();
            let count = queue.asks.len().min(TOGETHER);
            if count == 0 {
                // Under the lock: a question that comes now starts a reading of its own.
                queue.reading = false;
                drop(queue);
                std::mem::forget(turn);
                return;
            }
            queue.asks.drain(..count).collect::<Vec<_>>()
        };
        let answers = read(chain, &asks).await;
        for (ask, answer) in asks.into_iter().zip(answers) {
            // Whoever asked may have gone away.
            let _ = ask.reply.send(answer);
        }
    }
}

/// One look at the heads, then all questions at the blocks that they need.
async fn read(chain: &Chain, asks: &[Ask]) -> Vec<RawReading> {
    let mut finalities = vec![chain.host.floor()];
    for ask in asks {
        if !finalities.contains(&ask.asked) {
            finalities.push(ask.asked);
        }
    }
    let heads = match try_join_all(chain.endpoints.iter().map(|e| e.heads(&finalities))).await {
        Ok(heads) => heads,
        Err(error) => {
            let stop = Stop::from(error);
            return asks.iter().map(|_| Err(stop.clone())).collect();
        }
    };
    // Each height is looked up once.
    let mut blocks = HashMap::new();
    for ask in asks {
        let target = target(chain, &heads, ask.asked);
        if let Ok(height) = &target
            && !blocks.contains_key(height)
        {
            blocks.insert(*height, block_at(chain, &heads, *height).await);
        }
    }
    let places: Vec<Result<BlockRef, Stop>> = asks
        .iter()
        .map(|ask| {
            let height = target(chain, &heads, ask.asked)?;
            blocks.get(&height).cloned().unwrap_or_else(|| Err(short()))
        })
        .collect();
    // Every endpoint is asked at both of its blocks; the same question is put once.
    let answers = join_all(chain.endpoints.iter().zip(&heads).map(async |(endpoint, head)| {
        let mut calls: Vec<(Bytes, B256)> = Vec::new();
        let mut place_of = HashMap::new();
        let mut place = |question: &Bytes, block: B256| {
            *place_of.entry((question.clone(), block)).or_insert_with(|| {
                calls.push((question.clone(), block));
                calls.len() - 1
            })
        };
        let wanted: Vec<_> = asks
            .iter()
            .zip(&places)
            .map(|(ask, block)| {
                let block = block.as_ref().ok()?;
                Some((place(&ask.question, block.hash), place(&ask.question, head.latest.hash)))
            })
            .collect();
        let results = endpoint.call_all(chain.host.contracts.guard_lens, &calls).await;
        let take = |index: usize| results.get(index).cloned().unwrap_or_else(|| Err(no_answer(endpoint)));
        wanted
            .into_iter()
            .map(|both| both.map(|(at_final, at_latest)| (take(at_final), take(at_latest))))
            .collect::<Vec<_>>()
    }))
    .await;
    places.into_iter().enumerate().map(|(index, block)| combine(block?, index, &answers)).collect()
}

type Answers = Vec<Option<(Result<Bytes, EndpointError>, Result<Bytes, EndpointError>)>>;

/// What all endpoints say to one question.
fn combine(block: BlockRef, index: usize, answers: &[Answers]) -> RawReading {
    let (mut finals, mut at_latest) = (Vec::new(), Vec::new());
    for endpoint in answers {
        let (at_final, latest) = endpoint.get(index).cloned().flatten().ok_or_else(short)?;
        finals.push(at_final?);
        at_latest.push(latest?);
    }
    let at_final = finals.first().cloned().ok_or_else(short)?;
    if finals.iter().any(|other| *other != at_final) {
        let detail = format!("the endpoints disagree about the state of block {}", block.number);
        return Err(Stop::Wait(NotYetReason::BlockUnknown, detail));
    }
    Ok(Reading { block, at_final, at_latest })
}

/// The lowest height that satisfies a finality and the floor: every endpoint has to know the block.
fn target(chain: &Chain, heads: &[Heads], asked: Finality) -> Result<u64, Stop> {
    let heights = heads.iter().map(|h| Some(h.height(asked)?.min(h.height(chain.host.floor())?)));
    heights.min().flatten().ok_or_else(short)
}

fn short() -> Stop {
    Stop::Wait(NotYetReason::NotFinal, "the chain is shorter than the finality asked for".into())
}

fn no_answer(endpoint: &Endpoint) -> EndpointError {
    EndpointError::Unavailable { endpoint: endpoint.name().into(), problem: "an answer is missing".into() }
}

async fn block_at(chain: &Chain, heads: &[Heads], height: u64) -> Result<BlockRef, Stop> {
    let blocks = try_join_all(chain.endpoints.iter().zip(heads).map(async |(endpoint, head)| {
        if head.latest.number == height { Ok(head.latest) } else { endpoint.block_at(height).await }
    }))
    .await?;
    let first = *blocks.first().ok_or_else(short)?;
    if blocks.iter().all(|b| b.hash == first.hash) {
        return Ok(first);
    }
    Err(Stop::Wait(NotYetReason::BlockUnknown, format!("the endpoints disagree about block {height}")))
}
