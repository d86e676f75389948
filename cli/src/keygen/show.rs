//! How far a run is: a bar on a terminal, lines elsewhere, JSON lines for programs.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use kms_client::transport::KeyGenState;
use kms_proto::node::KeyGenResponse;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Views;

/// Where there is no terminal, a line at least so often.
const EVERY: Duration = Duration::from_secs(10);

enum Kind {
    Bar(ProgressBar),
    Lines,
    Json,
}

pub(super) struct Screen {
    kind: Kind,
    /// What was shown last, and when.
    last: Mutex<(String, Option<Instant>)>,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        let kind = if json {
            Kind::Json
        } else if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  ({elapsed})");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            Kind::Bar(bar)
        } else {
            Kind::Lines
        };
        Self { kind, last: Mutex::default() }
    }

    /// Something that happens once.
    pub(super) fn say(&self, event: &str, text: &str, value: &Value) {
        match &self.kind {
            Kind::Bar(bar) => bar.println(format!("{event} {text}")),
            Kind::Lines => eprintln!("{event} {text}"),
            Kind::Json => {
                let mut line = json!({ "event": event });
                if let (Value::Object(line), Value::Object(more)) = (&mut line, value) {
                    line.extend(more.clone());
                }
                println!("{line}");
            }
        }
    }

    pub(super) fn warn(&self, text: &str) {
        self.say("warning", text, &json!({ "warning": text }));
    }

    /// How far the parties are; `quorum` of them finish a run.
    pub(super) fn show(&self, views: &Views, quorum: usize) {
        let Some(view) = typical(views, quorum) else { return };
        let line = describe(view);
        match &self.kind {
            Kind::Bar(bar) => {
                bar.set_length(view.chunks_total);
                bar.set_position(view.chunks_done);
                bar.set_message(line);
            }
            Kind::Lines => {
                let mut last = self.last.lock();
                if last.0 != view.phase || last.1.is_none_or(|at| at.elapsed() >= EVERY) {
                    *last = (view.phase.clone(), Some(Instant::now()));
                    eprintln!("{}/{}  {line}", view.chunks_done, view.chunks_total);
                }
            }
            Kind::Json => {
                let mut last = self.last.lock();
                if last.0 != line {
                    last.0.clone_from(&line);
                    println!("{}", event(view));
                }
            }
        }
    }

    pub(super) fn finish(&self) {
        if let Kind::Bar(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }
}

/// The party that is as far as a quorum is.
fn typical(views: &Views, quorum: usize) -> Option<&KeyGenResponse> {
    let mut known: Vec<&KeyGenResponse> = views.iter().filter_map(|(_, view)| view.as_ref().ok()).collect();
    known.retain(|view| !matches!(view.state(), KeyGenState::Aborted | KeyGenState::Failed));
    known.sort_by_key(|view| std::cmp::Reverse((view.state, view.chunks_done)));
    known.get(quorum.saturating_sub(1)).or(known.last()).copied()
}

fn describe(view: &KeyGenResponse) -> String {
    let mut line = view.phase.clone();
    if view.state() == KeyGenState::Running {
        line += &format!(", {} bits/s, {} sent", short(view.bits_per_second), bytes(view.bytes_sent));
        if let Some(left) = view.seconds_left {
            line += &format!(", {} left", time(left));
        }
    }
    if !view.problem.is_empty() {
        line += &format!(", {}", view.problem);
    }
    line
}

fn event(view: &KeyGenResponse) -> Value {
    json!({
        "event": "progress", "phase": view.phase, "chunksDone": view.chunks_done, "chunksTotal": view.chunks_total,
        "bitsPerSecond": view.bits_per_second, "bytesSent": view.bytes_sent, "secondsLeft": view.seconds_left,
        "late": parties(&view.late), "wrong": parties(&view.wrong), "problem": view.problem,
    })
}

/// Indices of the parties in a bitmap.
pub(super) fn parties(bitmap: &[u8]) -> Vec<u32> {
    let set = |bit: &u32| {
        let byte = bitmap.len().checked_sub(1 + *bit as usize / 8).and_then(|at| bitmap.get(at));
        byte.is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
    };
    (0..256u32).filter(set).map(|bit| bit + 1).collect()
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn short(number: u64) -> String {
    match number {
        n if n >= 1_000_000 => format!("{:.1} M", n as f64 / 1e6),
        n if n >= 1_000 => format!("{:.0} k", n as f64 / 1e3),
        n => n.to_string(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn bytes(number: u64) -> String {
    match number {
        n if n >= 1_000_000_000 => format!("{:.1} GB", n as f64 / 1e9),
        n => format!("{:.1} MB", n as f64 / 1e6),
    }
}

fn time(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// All parties, a line each.
pub(super) fn table(views: &Views, json: bool) -> String {
    if json {
        let all: Vec<Value> = views
            .iter()
            .map(|(index, view)| match view {
                Ok(view) => {
                    let mut value = event(view);
                    value["party"] = (*index).into();
                    value["runId"] = format!("0x{}", hex::encode(&view.run_id)).into();
                    value["state"] = view.state().as_str_name().into();
                    value["keyId"] = format!("0x{}", hex::encode(&view.key_id)).into();
                    value["usable"] = view.usable.into();
                    value
                }
                Err(error) => json!({ "party": index, "error": error.to_string() }),
            })
            .collect();
        return format!("{}\n", Value::Array(all));
    }
    let line = |(index, view): &(u32, Result<KeyGenResponse, _>)| match view {
        Err(error) => format!("party {index}  {error}\n"),
        Ok(view) if view.state() == KeyGenState::Unknown => format!("party {index}  knows no such run\n"),
        Ok(view) => {
            let run = hex::encode(view.run_id.get(..4).unwrap_or_default());
            let mut text =
                format!("party {index}  run {run}…  {}/{}  {}", view.chunks_done, view.chunks_total, describe(view));
            for (what, bitmap) in [("late", &view.late), ("wrong", &view.wrong)] {
                for party in parties(bitmap) {
                    text += &format!(", party {party} {what}");
                }
            }
            text + "\n"
        }
    };
    views.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use kms_client::transport::PartyError;

    use super::*;

    fn view(state: KeyGenState, done: u64) -> KeyGenResponse {
        let mut late = vec![0; 32];
        late[31] = 0b1000;
        KeyGenResponse {
            run_id: vec![0xab; 32],
            state: state.into(),
            phase: "squashing key".into(),
            chunks_done: done,
            chunks_total: 20,
            bytes_sent: 2_500_000_000,
            bits_per_second: 1_400_000,
            seconds_left: Some(75),
            late,
            ..Default::default()
        }
    }

    #[test]
    fn a_run_is_as_far_as_the_last_of_its_quorum() {
        let views = vec![
            (1, Ok(view(KeyGenState::Running, 9))),
            (2, Ok(view(KeyGenState::Finishing, 20))),
            (3, Err(PartyError::Timeout)),
            (4, Ok(view(KeyGenState::Running, 7))),
        ];
        assert_eq!(typical(&views, 3).unwrap().chunks_done, 7);
        assert_eq!(typical(&views, 2).unwrap().chunks_done, 9);
        assert!(typical(&vec![(1, Err(PartyError::Timeout))], 3).is_none());
    }

    #[test]
    fn progress_is_for_people_and_for_programs() {
        let views = vec![(1, Ok(view(KeyGenState::Running, 9))), (2, Err(PartyError::Timeout))];
        assert_eq!(
            table(&views, false),
            "party 1  run abababab…  9/20  squashing key, 1.4 M bits/s, 2.5 GB sent, 1 min 15 s left, party 4 late\n\
             party 2  no answer in time\n"
        );
        let json: Value = serde_json::from_str(&table(&views, true)).unwrap();
        assert_eq!((&json[0]["late"], &json[0]["secondsLeft"]), (&json!([4]), &json!(75)));
        assert_eq!(json[1]["error"], "no answer in time");
        assert_eq!(time(7300), "2 h 01 min");
    }

    #[test]
    fn bitmaps_are_read_from_their_end() {
        let mut bitmap = vec![0; 32];
        (bitmap[31], bitmap[30]) = (0b1000_0001, 1);
        assert_eq!(parties(&bitmap), [1, 8, 9]);
        assert!(parties(&[]).is_empty());
    }
}
