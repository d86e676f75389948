//! An endpoint of which a test decides what it says.

use crate::rpc::Url;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// What the server says to a request.
pub(crate) enum Answer {
    /// The request, perhaps another one, goes to the chain, and its answer back.
    Forward(String),
    /// This result.
    Result(String),
    /// A body that does not end.
    Endless,
    /// A body that is announced with this size, and does not come.
    Announced(usize),
}

pub(crate) struct Server {
    port: u16,
    /// Bytes of endless bodies that somebody took.
    pub(crate) taken: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Where "endless" ends all the same: enough to notice, not enough to hurt.
const ENDLESS: usize = 256 << 20;

impl Server {
    /// Answers each request body by `answer`; `target` is the chain's port.
    pub(crate) async fn start(target: u16, answer: impl Fn(String) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        let (answer, taken) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
        let counter = taken.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, counter) = (answer.clone(), counter.clone());
                tokio::spawn(async move {
                    let request = read_body(&mut stream).await?;
                    let id = serde_json::from_str::<serde_json::Value>(&request).map(|v| v["id"].clone());
                    let id = id.unwrap_or_default();
                    match answer(request) {
                        Answer::Forward(request) => {
                            let mut far = TcpStream::connect(("127.0.0.1", target)).await.ok()?;
                            far.write_all(with_head("POST / HTTP/1.1\r\nhost: localhost", &request).as_bytes())
                                .await
                                .ok()?;
                            respond(&mut stream, &read_body(&mut far).await?).await
                        }
                        Answer::Result(result) => {
                            respond(&mut stream, &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)).await
                        }
                        Answer::Endless => endless(&mut stream, &counter).await,
                        Answer::Announced(size) => {
                            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
                            stream.write_all(head.as_bytes()).await.ok()?;
                            tokio::time::sleep(Duration::from_secs(60)).await;
                            Some(())
                        }
                    }
                });
            }
        });
        Self { port, taken, task }
    }

    pub(crate) fn url(&self) -> Url {
        format!("http://127.0.0.1:{}", self.port).parse().expect("a URL")
    }
}

fn with_head(first: &str, body: &str) -> String {
    let length = body.len();
    format!("{first}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

async fn respond(stream: &mut TcpStream, body: &str) -> Option<()> {
    stream.write_all(with_head("HTTP/1.1 200 OK", body).as_bytes()).await.ok()
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
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().filter_map(|line| line.split_once(':'));
        let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length: usize = length.next_back()?.1.trim().parse().ok()?;
        if body.len() >= length {
            return Some(body.to_owned());
        }
    }
}
