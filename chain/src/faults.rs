//! An RPC endpoint that misbehaves on command, and a wire that can be cut: for tests of whoever reads a chain or sends
//! transactions to it. In front of a real node, so that everything else is real.

mod anvil;
mod wire;

pub use anvil::Anvil;
pub use wire::Wire;

use crate::rpc::Url;
use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the endpoint says to one request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer {
    /// The request, perhaps another one, goes to the chain, and its answer back.
    Forward(String),
    /// The same, after a pause.
    Late(Duration, String),
    /// The request reaches the chain twice; the second answer comes back.
    Twice(String),
    /// The request reaches the chain, and the answer is lost with the connection.
    Lose(String),
    /// The first half of the chain's answer, and the connection ends.
    Cut(String),
    /// The chain's answer, changed.
    Edited(String, fn(String) -> String),
    /// The answer of another node, by its port.
    Elsewhere(u16, String),
    /// This result.
    Result(String),
    /// This error of the node.
    Error(i64, String),
    /// An HTTP status, with a number of seconds to come again after, if any.
    Status(u16, Option<u64>),
    /// The connection is closed.
    Drop,
    /// The connection stays open, and nothing comes.
    Silence,
    /// A body that does not end.
    Endless,
    /// A body that is announced with this size, and does not come.
    Announced(usize),
}

/// A fault that all requests meet, until another one is set.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Fault {
    /// None at all.
    #[default]
    None,
    /// See [`Answer::Late`].
    Delay(Duration),
    /// See [`Answer::Twice`].
    Twice,
    /// See [`Answer::Lose`].
    Lose,
    /// See [`Answer::Cut`].
    Cut,
    /// See [`Answer::Drop`].
    Drop,
    /// See [`Answer::Silence`].
    Silence,
    /// See [`Answer::Status`].
    Status(u16, Option<u64>),
    /// See [`Answer::Error`].
    Error(i64, &'static str),
    /// See [`Answer::Result`].
    Result(&'static str),
    /// See [`Answer::Elsewhere`].
    Elsewhere(u16),
    /// The newest block is this one, and the rest is as it is.
    StaleHead(u64),
    /// What transactions an account has is what it had at this block.
    StaleCounts(u64),
    /// No block has logs.
    NoLogs,
    /// Each log comes twice.
    DoubleLogs,
}

impl Fault {
    fn answer(&self, request: String) -> Answer {
        match self {
            Self::None => Answer::Forward(request),
            Self::Delay(pause) => Answer::Late(*pause, request),
            Self::Twice => Answer::Twice(request),
            Self::Lose => Answer::Lose(request),
            Self::Cut => Answer::Cut(request),
            Self::Drop => Answer::Drop,
            Self::Silence => Answer::Silence,
            Self::Status(status, retry_after) => Answer::Status(*status, *retry_after),
            Self::Error(code, message) => Answer::Error(*code, (*message).to_owned()),
            Self::Result(result) => Answer::Result((*result).to_owned()),
            Self::Elsewhere(port) => Answer::Elsewhere(*port, request),
            Self::StaleHead(number) if request.contains("eth_getBlockByNumber") => {
                Answer::Forward(request.replace("\"latest\"", &format!("\"{number:#x}\"")))
            }
            Self::StaleCounts(number) if request.contains("eth_getTransactionCount") => {
                Answer::Forward(request.replace("\"latest\"", &format!("\"{number:#x}\"")))
            }
            Self::NoLogs if request.contains("eth_getLogs") => Answer::Result("[]".to_owned()),
            Self::DoubleLogs if request.contains("eth_getLogs") => Answer::Edited(request, doubled),
            Self::StaleHead(_) | Self::StaleCounts(_) | Self::NoLogs | Self::DoubleLogs => Answer::Forward(request),
        }
    }
}

fn doubled(answer: String) -> String {
    let Ok(mut answer) = serde_json::from_str::<serde_json::Value>(&answer) else { return answer };
    if let Some(logs) = answer["result"].as_array_mut() {
        logs.extend(logs.clone());
    }
    answer.to_string()
}

/// The endpoint. Ends when dropped.
pub struct FaultyRpc {
    port: u16,
    fault: Arc<Mutex<Met>>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

/// A fault, and the only method that meets it, if not all do.
#[derive(Default)]
struct Met {
    fault: Fault,
    only: Option<&'static str>,
}

#[derive(Default)]
struct Counts {
    asked: AtomicUsize,
    taken: AtomicUsize,
}

impl fmt::Debug for FaultyRpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyRpc").field("port", &self.port).finish_non_exhaustive()
    }
}

impl Drop for FaultyRpc {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where "endless" ends all the same: enough to notice, not enough to hurt.
const ENDLESS: usize = 256 << 20;
/// How long a connection without an answer is kept open.
const SILENCE: Duration = Duration::from_secs(600);

impl FaultyRpc {
    /// In front of the node at port `target` of this machine; without fault until [`Self::set`].
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(target: u16) -> io::Result<Self> {
        let fault = Arc::new(Mutex::new(Met::default()));
        let current = fault.clone();
        let answer = move |request: String| {
            let met = current.lock().unwrap_or_else(PoisonError::into_inner);
            let spared = met.only.is_some_and(|method| !request.contains(method));
            if spared { Answer::Forward(request) } else { met.fault.answer(request) }
        };
        Self::serve(target, fault, answer).await
    }

    /// In front of the node at port `target`; `answer` decides about each request.
    ///
    /// # Errors
    /// No port is free.
    pub async fn with(target: u16, answer: impl Fn(String) -> Answer + Send + Sync + 'static) -> io::Result<Self> {
        Self::serve(target, Arc::default(), answer).await
    }

    async fn serve(
        target: u16,
        fault: Arc<Mutex<Met>>,
        answer: impl Fn(String) -> Answer + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (answer, counts) = (Arc::new(answer), Arc::new(Counts::default()));
        let counted = counts.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, counts) = (answer.clone(), counted.clone());
                tokio::spawn(async move {
                    let request = read_body(&mut stream).await?;
                    counts.asked.fetch_add(1, Ordering::Relaxed);
                    let id = serde_json::from_str::<serde_json::Value>(&request).map(|v| v["id"].clone());
                    say(&mut stream, target, &id.unwrap_or_default(), answer(request), &counts.taken).await
                });
            }
        });
        Ok(Self { port, fault, counts, task })
    }

    /// From now on, all requests meet this fault.
    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Met { fault, only: None };
    }

    /// From now on, requests of this method meet this fault, and no others do.
    pub fn set_for(&self, method: &'static str, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Met { fault, only: Some(method) };
    }

    /// Requests so far.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.counts.asked.load(Ordering::Relaxed)
    }

    /// Bytes of endless bodies that somebody took.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.counts.taken.load(Ordering::Relaxed)
    }

    /// Port of this machine.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Address for HTTP.
    #[must_use]
    pub fn url(&self) -> Url {
        local_url("http", self.port)
    }
}

fn local_url(scheme: &str, port: u16) -> Url {
    Url::parse(&format!("{scheme}://127.0.0.1:{port}")).unwrap_or_else(|_| unreachable!("an address and a port"))
}

/// `None`: the connection broke, which is the client's problem or what was wanted.
async fn say(
    stream: &mut TcpStream,
    target: u16,
    id: &serde_json::Value,
    answer: Answer,
    taken: &AtomicUsize,
) -> Option<()> {
    let body = match answer {
        Answer::Forward(request) => forward(target, &request).await?,
        Answer::Late(pause, request) => {
            tokio::time::sleep(pause).await;
            forward(target, &request).await?
        }
        Answer::Twice(request) => {
            forward(target, &request).await?;
            forward(target, &request).await?
        }
        Answer::Lose(request) => {
            forward(target, &request).await?;
            return None;
        }
        Answer::Cut(request) => {
            let whole = with_head("HTTP/1.1 200 OK", "", &forward(target, &request).await?);
            return stream.write_all(whole.as_bytes().get(..whole.len() - whole.len() / 4)?).await.ok();
        }
        Answer::Edited(request, edit) => edit(forward(target, &request).await?),
        Answer::Elsewhere(port, request) => forward(port, &request).await?,
        Answer::Result(result) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
        Answer::Error(code, message) => {
            let error = serde_json::json!({ "code": code, "message": message });
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
        }
        Answer::Status(status, retry_after) => {
            let header = retry_after.map(|seconds| format!("retry-after: {seconds}\r\n")).unwrap_or_default();
            let head = with_head(&format!("HTTP/1.1 {status} No"), &header, "");
            return stream.write_all(head.as_bytes()).await.ok();
        }
        Answer::Drop => return None,
        Answer::Silence => {
            tokio::time::sleep(SILENCE).await;
            return None;
        }
        Answer::Endless => return endless(stream, taken).await,
        Answer::Announced(size) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.ok()?;
            tokio::time::sleep(SILENCE).await;
            return None;
        }
    };
    stream.write_all(with_head("HTTP/1.1 200 OK", "", &body).as_bytes()).await.ok()
}

async fn forward(target: u16, request: &str) -> Option<String> {
    let mut far = TcpStream::connect(("127.0.0.1", target)).await.ok()?;
    far.write_all(with_head("POST / HTTP/1.1\r\nhost: localhost", "", request).as_bytes()).await.ok()?;
    read_body(&mut far).await
}

fn with_head(first: &str, header: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{first}\r\ncontent-type: application/json\r\nconnection: close\r\n{header}content-length: {length}\r\n\r\n{body}"
    )
}

async fn endless(stream: &mut TcpStream, taken: &AtomicUsize) -> Option<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.ok()?;
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    while taken.load(Ordering::Relaxed) < ENDLESS {
        stream.write_all(chunk.as_bytes()).await.ok()?;
        taken.fetch_add(0x10000, Ordering::Relaxed);
    }
    Some(())
}

/// The body of a request or response with a length.
async fn read_body(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(bytes.get(..end)?);
        let length = head.lines().filter_map(|line| line.split_once(':'));
        let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.next_back()?.1.trim().parse().ok()?;
        let body = bytes.get(end + 4..)?;
        if body.len() >= length {
            return String::from_utf8(body.to_vec()).ok();
        }
    }
}
